"""A circle on the sky, and the cells of a survey that reach into it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

from raydeblend.errors import ConfigError
from raydeblend.pipeline.ownership import gap_degrees, pixels_of, to_sky
from raydeblend.pipeline.plan import Plan
from raydeblend.tile import TileHeader

DEGREES = {"": 1.0, "deg": 1.0, "arcmin": 1 / 60, "arcsec": 1 / 3600}
REGION = re.compile(r"([^,]+),([^,]+),\s*([-+.\d]+(?:e[-+]?\d+)?)\s*([a-z]*)\s*")


@dataclass(frozen=True)
class Region:
    """A circle on the sky: center (ICRS) and radius in degrees."""

    ra: float
    dec: float
    radius: float

    def __post_init__(self) -> None:
        if not (abs(self.dec) <= 90 and abs(self.ra) <= 360 and 0 < self.radius <= 180):
            raise ConfigError(
                f"there is no region {self}; right ascension is from -360 to 360, declination from "
                "-90 to 90, the radius above 0 and at most 180 degrees"
            )

    def __str__(self) -> str:
        return f"{self.ra:g},{self.dec:g},{self.radius:g}"


def parse_region(text: str) -> Region:
    """Return the region that ``150.1,2.2,0.1`` or ``150.1,2.2,6arcmin`` names.

    Raises
    ------
    ConfigError
        If it does not name one.
    """
    match = REGION.fullmatch(text)
    try:
        if match and match[4] in DEGREES:
            ra, dec, radius = (float(match[i]) for i in (1, 2, 3))
            return Region(ra, dec, radius * DEGREES[match[4]])
    except ValueError:
        pass
    raise ConfigError(
        f"{text!r} is not a region RA,DEC,RADIUS; write degrees (150.1,2.2,0.1) or a radius with "
        "its unit (6arcmin, 360arcsec)"
    )


def cells_within(plan: Plan, region: Region) -> NDArray[np.bool_]:
    """Tell which cells of a plan have a pixel within a region, ``(cells,)``.

    Raises
    ------
    ConfigError
        If no tile of the survey, in whatever part, comes near it.
    """
    chosen = np.zeros(len(plan), dtype=bool)
    headers = [plan.header(tile) for tile in range(len(plan.tiles))]
    gaps = np.array([gap_degrees(header, region.ra, region.dec) for header in headers])
    near = np.flatnonzero(gaps <= region.radius)
    if not len(near):
        nearest = f"; the nearest is {gaps.min():.3g} degrees from its center" if len(gaps) else ""
        raise ConfigError(f"no tile is in the region {region}{nearest}")
    sky = SkyCoord(region.ra, region.dec, unit="deg")
    for tile in near.tolist():
        cells = np.flatnonzero(plan.tile == tile)
        chosen[cells] = _distance(headers[tile], plan.inner[cells], sky) <= region.radius
    return chosen


def _distance(header: TileHeader, inner: NDArray[np.int32], sky: SkyCoord) -> NDArray[np.float64]:
    """Return how far the nearest point of each box ``(n, 4)`` is from a position, in degrees."""
    (place,), _ = pixels_of(header, sky.reshape(1))
    if not np.isfinite(place).all():  # on the other half of the sky
        place = (np.array(header.shape[::-1]) - 1) / 2
    y0, x0, y1, x1 = inner.T - 0.5
    xy = np.column_stack([np.clip(place[0], x0, x1), np.clip(place[1], y0, y1)])
    return np.asarray(to_sky(header, xy).separation(sky).deg)
