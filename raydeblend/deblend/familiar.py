"""Whether a network was trained on stamps like the one it sees.

Each stamp is described by its brightest pixel, the extent and color of its light, the PSF's width
and the pixel scale.  Its distance from the training stamps is the largest deviation of any of these
from the median, in robust standard deviations; the limit is the distance exceeded by one training
stamp in a thousand.  Medians, widths and limits are in ``weights/inputs.json``, for each family of
networks with the same training stamps; `raydeblend train inputs` measures them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.calibration import read_calibration, write_calibration
from raydeblend.shipped import SHIPPED

Array = NDArray[np.float64]

STATISTICS = ("log_peak", "log_extent", "color", "log_psf", "log_pixel_scale")
"""In the order of `statistics`."""
TAIL = 0.999
"""Fraction of the training stamps within the limit."""
FLOOR = 0.05
"""Least standard deviation, for statistics such as a pixel scale that training did not vary."""


@dataclass(frozen=True)
class StatisticsConfig:
    """How stamps are described.

    Attributes
    ----------
    seen
        Significance in all bands above which a pixel counts as light.
    least_peak
        Fainter peaks, in units of the noise, are clipped: they are noise.
    """

    seen: float = 5.0
    least_peak: float = 1.0


STAMPS = StatisticsConfig()


@dataclass(frozen=True)
class Familiar:
    """The training stamps of one family of networks.

    Attributes
    ----------
    deblenders
        Names of the deblenders with these networks.
    center, width
        ``(5,)`` medians and robust standard deviations of `STATISTICS`.
    limit
        Distance beyond which a stamp is unlike the training stamps.
    """

    deblenders: tuple[str, ...]
    center: Array
    width: Array
    limit: float

    def distance(self, seen: Array) -> Array:
        """Return the distance ``(n,)`` of statistics ``(n, 5)`` from the training stamps'."""
        return np.asarray(np.abs((seen - self.center) / self.width).max(axis=1))

    def is_unlike(self, seen: Array) -> NDArray[np.bool_]:
        """Return which statistics ``(n, 5)`` are beyond the limit."""
        return np.asarray(self.distance(seen) > self.limit)


@dataclass(frozen=True)
class Inputs:
    """The training stamps of all families of networks.

    Attributes
    ----------
    families
        Each deblender is in at most one.
    card
        Where it comes from.
    sha256
        Of the file it was read from.
    """

    families: tuple[Familiar, ...]
    card: Mapping[str, Any]
    sha256: str = ""

    def of(self, deblender: str) -> Familiar | None:
        """Return the family of a deblender, or None."""
        return next((each for each in self.families if deblender in each.deblenders), None)


def statistics(
    stamps: NDArray[np.floating], psf_width: NDArray[np.floating], pixel_scale: float
) -> Array:
    """Return the statistics of stamps, ``(n, 5)`` in the order of `STATISTICS`.

    Parameters
    ----------
    stamps
        ``(n, bands, y, x)`` in units of each band's noise, 0 where unusable; the network's bands.
    psf_width
        ``(n,)`` sigma of the PSF in pixels.
    pixel_scale
        In arcsec.
    """
    together = stamps.sum(axis=1) / np.sqrt(stamps.shape[1])
    lit = np.maximum((together > STAMPS.seen).sum(axis=(1, 2)), 1)
    light = np.where(together[:, None] > STAMPS.seen, stamps, 0).sum(axis=(2, 3))
    first, last = np.maximum(light[:, 0], STAMPS.seen), np.maximum(light[:, -1], STAMPS.seen)
    return np.column_stack(
        [
            np.log(np.maximum(stamps.max(axis=(1, 2, 3)), STAMPS.least_peak)),
            np.log(lit * pixel_scale**2),
            np.log(last / first),
            np.log(psf_width),
            np.full(len(stamps), np.log(pixel_scale)),
        ]
    )


def familiar_from(seen: Array, deblenders: tuple[str, ...]) -> Familiar:
    """Return what the statistics ``(n, 5)`` of training stamps say."""
    low, center, high = np.percentile(seen, [15.87, 50, 84.13], axis=0)
    width = np.maximum((high - low) / 2, FLOOR)
    found = Familiar(deblenders, center, width, np.inf)
    return replace(found, limit=float(np.quantile(found.distance(seen), TAIL)))


@cache
def shipped_inputs() -> Inputs:
    """Return what the shipped networks have learnt from.

    Raises
    ------
    ConfigError
        If the file is missing or damaged.
    """
    return read_inputs(SHIPPED / "inputs.json")


def read_inputs(path: str | Path) -> Inputs:
    """Read the file.

    Raises
    ------
    ConfigError
        If there is none or it is damaged.
    """

    def make(content: Mapping[str, Any], sha256: str) -> Inputs:
        return Inputs(tuple(map(_family, content["families"])), content["card"], sha256)

    return read_calibration(path, "inputs", make)


def _family(content: Mapping[str, Any]) -> Familiar:
    center, width = (np.array(content[name], np.float64) for name in ("center", "width"))
    if center.shape != width.shape or len(center) != len(STATISTICS):
        raise ValueError("there must be a center and a width of each statistic")
    return Familiar(tuple(content["deblenders"]), center, width, float(content["limit"]))


def write_inputs(path: str, inputs: Inputs) -> None:
    """Write the file as JSON."""
    families = [
        {
            "deblenders": list(each.deblenders),
            "center": each.center.round(6).tolist(),
            "width": each.width.round(6).tolist(),
            "limit": round(each.limit, 4),
        }
        for each in inputs.families
    ]
    write_calibration(path, {"families": families, "card": dict(inputs.card)})
