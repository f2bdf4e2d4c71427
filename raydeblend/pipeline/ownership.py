"""Which tile owns a position where tiles overlap, and which tiles do overlap."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS, Wcsprm
from numpy.typing import NDArray
from scipy.spatial import KDTree

from raydeblend.tile import TileHeader

Float64Array = NDArray[np.float64]
Coverage = Callable[[TileHeader, NDArray[np.int64]], Float64Array]

# Far below a pixel, far above rounding: two tiles whose centers are exactly as far away must
# agree that it is a tie, whichever of them computed the position.
TIE_DEGREES = 1e-8
# Frames whose axes are the same to a tenth of an arcsecond, so that neighbors can be sought
# without astropy's transformations, which are a thousand times slower.
SAME_AXES = ("", "ICRS", "FK5")
J2000 = 2000.0
SLACK_DEGREES = 1 / 3600
KEPT_WCS = 64
"""More than a tile has neighbors; astropy takes milliseconds to make one."""


def neighbors_of(headers: Sequence[TileHeader]) -> list[NDArray[np.int32]]:
    """Return the numbers of the other tiles whose circumscribed circles touch each tile's own."""
    if not headers:
        return []
    centers = np.array([_unit_vector(*_approximate_center(header)) for header in headers])
    radii = np.array([_radius_degrees(header) for header in headers])
    reach = 2 * np.sin(np.radians(2 * radii.max() + SLACK_DEGREES) / 2)
    near = KDTree(centers).query_ball_point(centers, reach, return_sorted=True)
    return [np.array([j for j in found if j != i], np.int32) for i, found in enumerate(near)]


def gap_degrees(header: TileHeader, ra: float, dec: float) -> float:
    """Return how far a tile's circumscribed circle is from a position in degrees; 0 if it holds it.

    To an arcsecond, on the near side.
    """
    place, own = (np.array(_unit_vector(*p)) for p in ((ra, dec), _approximate_center(header)))
    distance = math.degrees(2 * math.asin(min(1.0, float(np.linalg.norm(place - own)) / 2)))
    return max(0.0, distance - _radius_degrees(header) - SLACK_DEGREES)


def approximate_circle(header: TileHeader) -> tuple[Float64Array, float]:
    """Return the unit vector of a tile's center, and a chord as long as its pixels reach."""
    radius = math.radians(_radius_degrees(header) + SLACK_DEGREES)
    return np.array(_unit_vector(*_approximate_center(header))), 2 * math.sin(radius / 2)


def _approximate_center(header: TileHeader) -> tuple[float, float]:
    """Return right ascension and declination in degrees, to an arcsecond."""
    core = Wcsprm(header=header.wcs.encode(), relax=True)
    # NaN: the header names no equinox.
    of_2000 = math.isnan(core.equinox) or core.equinox == J2000
    same = core.radesys.strip() in SAME_AXES and of_2000
    if same and core.ctype[0].startswith("RA"):
        rows, columns = header.shape
        ra, dec = core.p2s([[(columns - 1) / 2, (rows - 1) / 2]], 0)["world"][0]
        return float(ra), float(dec)
    position = center(header)
    return float(position.ra.deg), float(position.dec.deg)


def center(header: TileHeader) -> SkyCoord:
    """Return the sky position (ICRS) of a tile's center."""
    return to_sky(header, np.array([[(header.shape[1] - 1) / 2, (header.shape[0] - 1) / 2]]))[0]


def to_sky(header: TileHeader, xy: Float64Array) -> SkyCoord:
    """Return ICRS positions ``(n,)`` of tile pixels ``(n, 2)``."""
    return _wcs(header.wcs).pixel_to_world(xy[:, 0], xy[:, 1]).icrs


def everywhere(header: TileHeader, pixels: NDArray[np.int64]) -> Float64Array:
    """Return the coverage of a tile with data at every pixel, for ownership by geometry alone."""
    return np.ones(len(pixels))


def is_primary(
    header: TileHeader,
    neighbors: Sequence[TileHeader],
    xy: Float64Array,
    covered: Coverage = everywhere,
) -> NDArray[np.bool_]:
    """Tell which positions ``(n, 2)`` in tile pixels the tile itself owns.

    Of the tiles that contain a position, it belongs to the one whose data cover it best; of those
    that cover it alike to the one with the nearest center, on a tie to the first by name.

    Parameters
    ----------
    covered
        How well a tile covers its pixels, at most 1: see `raydeblend.fits.coverage`.  It is asked
        only where tiles overlap, and of another tile only where that could win.
    """
    owned = np.ones(len(xy), dtype=bool)
    if not len(xy) or not neighbors:
        return owned
    sky = to_sky(header, xy)
    places = [pixels_of(other, sky) for other in neighbors]
    contested = np.any([inside for _, inside in places], axis=0)
    own = np.ones(len(xy))
    own[contested] = covered(header, nearest_pixels(xy[contested]))
    for other, (pixels, inside) in zip(neighbors, places, strict=True):
        first = _comes_first(other, header, sky)
        rival = np.flatnonzero(inside & owned & (first | (own < 1)))
        if len(rival):
            theirs = covered(other, nearest_pixels(pixels[rival]))
            lost = (theirs > own[rival]) | ((theirs == own[rival]) & first[rival])
            owned[rival[lost]] = False
    return owned


def _comes_first(other: TileHeader, header: TileHeader, sky: SkyCoord) -> NDArray[np.bool_]:
    """Tell which positions the other tile owns by geometry."""
    theirs, own = _center_distance(other, sky), _center_distance(header, sky)
    return np.asarray((theirs < own) | ((theirs == own) & (other.name < header.name)), dtype=bool)


def _center_distance(header: TileHeader, sky: SkyCoord) -> Float64Array:
    degrees = sky.separation(center(header)).deg
    return np.asarray(np.round(degrees / TIE_DEGREES), dtype=np.float64)


def pixels_of(header: TileHeader, sky: SkyCoord) -> tuple[Float64Array, NDArray[np.bool_]]:
    """Return positions ``(n, 2)`` in a tile's pixels, and which lie on the tile."""
    x, y = _wcs(header.wcs).world_to_pixel(sky)
    rows, columns = header.shape
    inside = (x >= -0.5) & (x < columns - 0.5) & (y >= -0.5) & (y < rows - 0.5)
    return np.column_stack([x, y]), np.asarray(inside, dtype=bool)


def nearest_pixels(xy: Float64Array) -> NDArray[np.int64]:
    """Return the pixel ``(n, 2)`` (x, y) that each position lies in."""
    return np.floor(xy + 0.5).astype(np.int64)


def _radius_degrees(header: TileHeader) -> float:
    return math.hypot(*header.shape) / 2 * header.pixel_scale / 3600


def _unit_vector(ra: float, dec: float) -> tuple[float, float, float]:
    a, d = math.radians(ra), math.radians(dec)
    return math.cos(d) * math.cos(a), math.cos(d) * math.sin(a), math.sin(d)


@lru_cache(KEPT_WCS)
def _wcs(cards: str) -> WCS:
    return WCS(fits.Header.fromstring(cards))
