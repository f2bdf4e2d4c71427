"""The noise of a whole tile on the scale of its sources, the same for every cell of it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import product

import numpy as np

from raydeblend.detect.noise_correlation import blank_sky, noise_ratios
from raydeblend.errors import TileError
from raydeblend.fits import read_realization, read_tile
from raydeblend.storage import READ_ERRORS
from raydeblend.survey import Survey
from raydeblend.tile import BandFile, Box, FloatArray, TileHeader

SIDE = 320
"""Of the boxes that are looked at, in pixels."""
BOXES = 3
"""Along each axis, evenly over the tile."""
TILES = 8
"""Whose noise a process remembers, since it does cells of one tile after another."""


@lru_cache(maxsize=TILES)
def tile_noise(
    header: TileHeader, survey: Survey, bad_planes: tuple[str, ...] | None
) -> tuple[float, ...]:
    """Return each band's noise on the scale of the PSF over that of independent pixels.

    From `BOXES` by `BOXES` boxes that the tile alone decides, so that all of its cells have the
    same; NaN where these have too little blank sky.  What cannot be read tells nothing here: it
    fails the cells that it belongs to.
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
    """Yield the boxes, or the whole of a tile that they would fill."""
    rows, columns = (_starts(n) for n in header.shape)
    for (y, height), (x, width) in product(rows, columns):
        yield Box(y, x, y + height, x + width)


def _starts(n: int) -> list[tuple[int, int]]:
    """Return first pixel and length of each part of an axis that is looked at."""
    if n <= BOXES * SIDE:
        return [(0, n)]
    return [(int(start), SIDE) for start in np.linspace(0, n - SIDE, BOXES)]


def _realization(file: BandFile | None, box: Box) -> FloatArray | None:
    return None if file is None else read_realization(file, box)
