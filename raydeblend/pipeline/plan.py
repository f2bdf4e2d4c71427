"""Which cells there are, and which tile owns a position where tiles overlap; from headers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.spatial import KDTree

from raydeblend.tile import Box, Cell, TileHeader

Float64Array = NDArray[np.float64]

# Far below a pixel, far above rounding: two tiles whose centres are exactly as far away must
# agree that it is a tie, whichever of them computed the position.
TIE_DEGREES = 1e-8


@dataclass(frozen=True)
class CellTask:
    """A cell and the tiles that overlap its own: all that a worker needs to know."""

    cell: Cell
    neighbours: tuple[TileHeader, ...] = ()


def plan_cells(headers: Sequence[TileHeader], cell_size: int, border: int) -> list[Cell]:
    """Cut tiles into cells, in order of tile and then row and column.

    A tile is cut evenly into as few cells as `cell_size` allows, so that no sliver is left over.

    Parameters
    ----------
    cell_size
        Largest side of an inner region in pixels.
    border
        Pixels read around it, as far as the tile reaches.
    """
    return [cell for header in headers for cell in _cut(header, cell_size, border)]


def _cut(header: TileHeader, cell_size: int, border: int) -> list[Cell]:
    rows, columns = (_edges(size, cell_size) for size in header.shape)
    inners = [Box(y0, x0, y1, x1) for y0, y1 in rows for x0, x1 in columns]
    return [
        Cell(cell_name(inner), header, inner, inner.grow(border).clip(header.box))
        for inner in inners
    ]


def _edges(size: int, largest: int) -> list[tuple[int, int]]:
    n = math.ceil(size / largest)
    edges = [size * i // n for i in range(n + 1)]
    return list(pairwise(edges))


def cell_name(inner: Box) -> str:
    """Return the name of the cell with this inner region."""
    return f"y{inner.y0:05d}-{inner.y1:05d}_x{inner.x0:05d}-{inner.x1:05d}"


def plan_tasks(headers: Sequence[TileHeader], cell_size: int, border: int) -> list[CellTask]:
    """Return the cells of all tiles with the neighbours of each."""
    neighbours = overlapping(headers)
    cells = plan_cells(headers, cell_size, border)
    return [CellTask(cell, neighbours[cell.tile.name]) for cell in cells]


def overlapping(headers: Sequence[TileHeader]) -> dict[str, tuple[TileHeader, ...]]:
    """Return, by name of tile, the other tiles whose circumscribed circles touch its own."""
    if not headers:
        return {}
    centres = np.array([_unit_vector(centre(header)) for header in headers])
    radii = np.array([_radius_degrees(header) for header in headers])
    reach = 2 * np.sin(np.radians(2 * radii.max()) / 2)
    near = KDTree(centres).query_ball_point(centres, reach)
    return {
        header.name: tuple(headers[j] for j in sorted(near[i]) if j != i)
        for i, header in enumerate(headers)
    }


def centre(header: TileHeader) -> SkyCoord:
    """Return the sky position (ICRS) of a tile's centre."""
    return to_sky(header, np.array([[(header.shape[1] - 1) / 2, (header.shape[0] - 1) / 2]]))[0]


def to_sky(header: TileHeader, xy: Float64Array) -> SkyCoord:
    """Return ICRS positions ``(n,)`` of tile pixels ``(n, 2)``."""
    return _wcs(header).pixel_to_world(xy[:, 0], xy[:, 1]).icrs


def is_primary(
    header: TileHeader, neighbours: Sequence[TileHeader], xy: Float64Array
) -> NDArray[np.bool_]:
    """Tell which positions ``(n, 2)`` in tile pixels the tile itself owns.

    A position belongs to the tile with the nearest centre among those that contain it, on a tie
    to the first by name.
    """
    if not len(xy) or not neighbours:
        return np.ones(len(xy), dtype=bool)
    sky = to_sky(header, xy)
    own = _centre_distance(header, sky)
    owned = np.ones(len(xy), dtype=bool)
    for other in neighbours:
        distance = _centre_distance(other, sky)
        nearer = (distance < own) | ((distance == own) & (other.name < header.name))
        owned &= ~(nearer & _contains(other, sky))
    return owned


def _centre_distance(header: TileHeader, sky: SkyCoord) -> Float64Array:
    degrees = sky.separation(centre(header)).deg
    return np.asarray(np.round(degrees / TIE_DEGREES), dtype=np.float64)


def _contains(header: TileHeader, sky: SkyCoord) -> NDArray[np.bool_]:
    x, y = _wcs(header).world_to_pixel(sky)
    rows, columns = header.shape
    inside = (x >= -0.5) & (x < columns - 0.5) & (y >= -0.5) & (y < rows - 0.5)
    return np.asarray(inside, dtype=bool)


def _radius_degrees(header: TileHeader) -> float:
    return math.hypot(*header.shape) / 2 * header.pixel_scale / 3600


def _unit_vector(position: SkyCoord) -> Float64Array:
    return np.asarray(position.cartesian.xyz.value, dtype=np.float64)


def _wcs(header: TileHeader) -> WCS:
    return WCS(fits.Header.fromstring(header.wcs))
