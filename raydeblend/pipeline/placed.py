"""Given positions on the tiles of a survey: which lie on which, in pixels."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray
from scipy.spatial import KDTree

from raydeblend.errors import ConfigError
from raydeblend.pipeline.ownership import approximate_circle, nearest_pixels, pixels_of
from raydeblend.positions import SkyPositions
from raydeblend.tile import BoolArray, Box, TileHeader

Pixel = tuple[int, int]


@dataclass(frozen=True, eq=False)
class TilePositions:
    """Positions on a tile, each with a pixel of its own, since that is what a source is known by.

    Attributes
    ----------
    xy
        ``(n, 2)`` in that pixel.
    offset
        ``(n, 2)`` from there to the position: 0, unless one before it has its pixel; then it has
        the nearest pixel that is free.
    names
        ``(n,)``.
    shapes
        ``(n, 9)``, see `SkyPositions`.
    """

    xy: NDArray[np.float64]
    offset: NDArray[np.float64]
    names: NDArray[np.str_]
    shapes: NDArray[np.float64] | None = None

    @property
    def repeated(self) -> BoolArray:
        """Which lie ``(n,)`` in the pixel of one before them."""
        return np.asarray(self.offset.any(axis=1))

    def take(self, chosen: BoolArray | NDArray[np.intp]) -> TilePositions:
        """Return some of them."""
        shapes = None if self.shapes is None else self.shapes[chosen]
        return TilePositions(self.xy[chosen], self.offset[chosen], self.names[chosen], shapes)

    def within(self, box: Box) -> TilePositions:
        """Return those on the pixels of a box."""
        x, y = nearest_pixels(self.xy).T
        return self.take((x >= box.x0) & (x < box.x1) & (y >= box.y0) & (y < box.y1))

    def names_at(self, x: NDArray[np.int64], y: NDArray[np.int64]) -> list[str]:
        """Return the name of the position on each of some pixels ``(k,)``; empty for none."""
        pixels = map(tuple, nearest_pixels(self.xy).tolist())
        known = dict(zip(pixels, self.names.tolist(), strict=True))
        return [known.get(pixel, "") for pixel in zip(x.tolist(), y.tolist(), strict=True)]

    def nearest(self, xy: NDArray[np.float64]) -> TilePositions:
        """Return the position that is nearest to each of some places ``(k, 2)``."""
        return self.take(np.asarray(KDTree(self.xy).query(xy)[1], dtype=np.intp))


@dataclass(frozen=True, eq=False)
class PlacedPositions:
    """The positions on each tile of a survey.

    Attributes
    ----------
    tiles
        Of each tile.
    outside
        How many positions lie on no tile.
    crowded
        How many lie in the pixel of another that comes first.
    """

    tiles: tuple[TilePositions, ...]
    outside: int
    crowded: int


def place(headers: Sequence[TileHeader], positions: SkyPositions) -> PlacedPositions:
    """Return the positions on each tile, in the order of the headers.

    Raises
    ------
    ConfigError
        If a tile has more positions than pixels.
    """
    sky = SkyCoord(positions.ra, positions.dec, unit="deg")
    tree = KDTree(sky.cartesian.xyz.value.T)
    found, crowded = np.zeros(len(positions), dtype=bool), 0
    tiles = []
    for header in headers:
        center, chord = approximate_circle(header)
        near = np.array(sorted(tree.query_ball_point(center, chord)), dtype=np.intp)
        xy, inside = pixels_of(header, sky[near])
        near, xy = near[inside], xy[inside]
        found[near] = True
        shapes = None if positions.shapes is None else positions.shapes[near]
        on_tile = TilePositions(*_with_own_pixels(header, xy), positions.names[near], shapes)
        crowded += int(np.sum(on_tile.repeated))
        tiles.append(on_tile)
    return PlacedPositions(tuple(tiles), int(np.sum(~found)), crowded)


def _with_own_pixels(
    header: TileHeader, xy: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return `TilePositions.xy` and `offset` of places ``(n, 2)`` on a tile."""
    pixels = nearest_pixels(xy)
    _, first = np.unique(pixels, axis=0, return_index=True)
    repeated = np.ones(len(xy), dtype=bool)
    repeated[first] = False
    taken = {(x, y) for x, y in pixels[first].tolist()}
    own = xy.copy()
    for i in np.flatnonzero(repeated).tolist():
        pixel = _nearest_free(header, xy[i], taken)
        taken.add(pixel)
        own[i] = pixel
    return own, xy - own


def _nearest_free(header: TileHeader, place: NDArray[np.float64], taken: Set[Pixel]) -> Pixel:
    """Return a pixel (x, y) near a place (x, y) of a tile that none of the others has."""
    x, y = nearest_pixels(place).tolist()
    for reach in range(1, max(header.shape)):
        box = Box(y - reach, x - reach, y + reach + 1, x + reach + 1).clip(header.box)
        around = [(i, j) for j in range(box.y0, box.y1) for i in range(box.x0, box.x1)]
        free = [pixel for pixel in around if pixel not in taken]
        if free:
            return min(free, key=lambda pixel: float(np.sum((pixel - place) ** 2)))
    raise ConfigError(f"the tile {header.name} has more positions than pixels")
