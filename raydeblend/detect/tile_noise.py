"""The noise of a whole tile on the scale of its sources, the same for every cell of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product

import numpy as np

from raydeblend.detect.noise_correlation import NOISE, blank_sky, noise_ratios
from raydeblend.errors import TileError
from raydeblend.fits import read_realization, read_tile
from raydeblend.storage import READ_ERRORS
from raydeblend.survey import Survey
from raydeblend.tile import BandFile, Box, FloatArray, TileHeader

CACHED_TILES = 8
"""A process works on the cells of one tile after another."""


@lru_cache(maxsize=CACHED_TILES)
def tile_noise(
    header: TileHeader, survey: Survey, bad_planes: tuple[str, ...] | None
) -> tuple[float, ...]:
    """Return each band's noise on the scale of the PSF over that of independent pixels.

    Measured in boxes that depend on the tile alone, so that all its cells get the same noise; NaN
    where they have too little blank sky.  Boxes that cannot be read are skipped: the cells that
    they belong to will fail.

    Parameters
    ----------
    bad_planes
        Mask planes that make a pixel unusable; None for the layout's.
    """
    parts = []
    alone = [False] * len(header.bands)
    for box in _boxes(header):
        try:
            tile = read_tile(header, box, survey, bad_planes)
            drawn = [_realization(file, tile.box) for file in header.files]
        except (TileError, *READ_ERRORS):
            continue
        alone = [one or noise is not None for one, noise in zip(alone, drawn, strict=True)]
        parts.append(blank_sky(tile, drawn))
    return tuple(noise_ratios(parts, alone).tolist())


def _boxes(header: TileHeader) -> Iterator[Box]:
    """Yield the boxes; where they would fill an axis of the tile, they cover all of it."""
    rows, columns = (_starts(n) for n in header.shape)
    for (y, height), (x, width) in product(rows, columns):
        yield Box(y, x, y + height, x + width)


def _starts(n: int) -> list[tuple[int, int]]:
    """Return the first pixel and the length of each box along an axis of `n` pixels."""
    if n <= NOISE.boxes * NOISE.box_side:
        return [(0, n)]
    starts = np.linspace(0, n - NOISE.box_side, NOISE.boxes)
    return [(int(start), NOISE.box_side) for start in starts]


def _realization(file: BandFile | None, box: Box) -> FloatArray | None:
    return None if file is None else read_realization(file, box)
