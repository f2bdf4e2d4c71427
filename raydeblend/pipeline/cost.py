"""What a catalog cost: core-hours, bytes, area, and from these the price of a survey."""

from __future__ import annotations

import math
from dataclasses import dataclass

from raydeblend.errors import ConfigError

SURVEY_DEG2 = 1000.0
"""The area that a price is given for."""


@dataclass(frozen=True)
class Cost:
    """What the cells of a catalog took, those done before too.

    Attributes
    ----------
    core_seconds
        Wall time of the stages, each of which has one core.
    bytes_read, bytes_written
        Of pixels, as they are once unpacked, and of shards and tables of footprints.
    square_degrees
        Inner regions of the cells that are done; where tiles overlap the area counts in each.
    price
        Of a core-hour, in whatever currency; None if it was not given.
    """

    core_seconds: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0
    square_degrees: float = 0.0
    price: float | None = None

    @property
    def core_hours(self) -> float:
        """Core-hours."""
        return self.core_seconds / 3600

    @property
    def core_hours_per_deg2(self) -> float | None:
        """Core-hours per square degree; None where no cell is done."""
        return self.core_hours / self.square_degrees if self.square_degrees else None

    def to_dict(self) -> dict[str, float | int | None]:
        """Return what ``summary.json`` says of it."""
        rate = self.core_hours_per_deg2
        return {
            "core_hours": round(self.core_hours, 6),
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "square_degrees": round(self.square_degrees, 9),
            "core_hours_per_deg2": rate,
            "price_per_core_hour": self.price,
            "price_per_1000_deg2": (
                None if rate is None or self.price is None else rate * SURVEY_DEG2 * self.price
            ),
        }


def check_price(price: float | None) -> None:
    """Check the price of a core-hour; a ConfigError if it is none."""
    if price is not None and not 0 <= price < math.inf:
        raise ConfigError(f"--price must be a price of a core-hour, at least 0, not {price:g}")
