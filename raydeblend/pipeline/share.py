"""A share of a survey's tiles, for runs of their own that together make one catalog."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from raydeblend.errors import ConfigError


@dataclass(frozen=True)
class Share:
    """The tiles that one of several runs does; every run knows all of them.

    A tile belongs to the run that the checksum of its name gives, so that it stays there whatever
    other tiles come or go.

    Attributes
    ----------
    number, of
        The first of four is 1 of 4.

    Raises
    ------
    ConfigError
        On construction, if there is no such share.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise ConfigError(f"there is no part {self}; write 1/4, 2/4, 3/4 and 4/4 for four runs")

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, tile: str) -> bool:
        """Tell whether a tile belongs to this share."""
        return zlib.crc32(tile.encode()) % self.of == self.number - 1


WHOLE = Share(1, 1)


def parse_share(text: str | None) -> Share:
    """Return the share that ``2/4`` names; all tiles for None.

    Raises
    ------
    ConfigError
        If it does not name one.
    """
    if text is None:
        return WHOLE
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if not match:
        raise ConfigError(f"{text!r} is not a part of a survey; write 2/4 for the second of four")
    return Share(int(match[1]), int(match[2]))
