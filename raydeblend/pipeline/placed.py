"""Given positions on the tiles of a survey: which lie on which, in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray
from scipy.spatial import KDTree

from raydeblend.pipeline.ownership import approximate_circle, nearest_pixels, pixels_of
from raydeblend.positions import SkyPositions
from raydeblend.tile import Box, TileHeader


@dataclass(frozen=True, eq=False)
class TilePositions:
    """Positions ``(n, 2)`` in pixels of a tile, each in a pixel of its own, and their names."""

    xy: NDArray[np.float64]
    names: NDArray[np.str_]

    def within(self, box: Box) -> TilePositions:
        """Return those on the pixels of a box."""
        x, y = nearest_pixels(self.xy).T
        inside = (x >= box.x0) & (x < box.x1) & (y >= box.y0) & (y < box.y1)
        return TilePositions(self.xy[inside], self.names[inside])

    def names_at(self, x: NDArray[np.int64], y: NDArray[np.int64]) -> list[str]:
        """Return the name of the position on each of some pixels ``(k,)``; empty for none."""
        pixels = map(tuple, nearest_pixels(self.xy).tolist())
        known = dict(zip(pixels, self.names.tolist(), strict=True))
        return [known.get(pixel, "") for pixel in zip(x.tolist(), y.tolist(), strict=True)]


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
        How many are left out on a tile since another, that comes first, lies on the same pixel.
    """

    tiles: tuple[TilePositions, ...]
    outside: int
    crowded: int


def place(headers: Sequence[TileHeader], positions: SkyPositions) -> PlacedPositions:
    """Return the positions on each tile, in the order of the headers."""
    sky = SkyCoord(positions.ra, positions.dec, unit="deg")
    tree = KDTree(sky.cartesian.xyz.value.T)
    found, crowded = np.zeros(len(positions), dtype=bool), 0
    tiles = []
    for header in headers:
        center, chord = approximate_circle(header)
        near = np.array(sorted(tree.query_ball_point(center, chord)), dtype=np.intp)
        xy, inside = pixels_of(header, sky[near])
        near, xy = near[inside], xy[inside]
        _, first = np.unique(nearest_pixels(xy), axis=0, return_index=True)
        first = np.sort(first)
        found[near] = True
        crowded += len(near) - len(first)
        tiles.append(TilePositions(xy[first], positions.names[near[first]]))
    return PlacedPositions(tuple(tiles), int(np.sum(~found)), crowded)
