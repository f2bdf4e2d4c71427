"""How well the usable pixels of a tile surround a place, the same for whoever asks."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from raydeblend import storage
from raydeblend.errors import TileError
from raydeblend.fits.pixels import read_tile
from raydeblend.survey import Survey
from raydeblend.tile import BoolArray, Box, TileHeader

RADIUS = 8
"""Pixels on each side of a place that should be usable: more than a PSF's width, so that where a
tile just counts as good it measures the same position as one that has all the pixels."""
STEPS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Parts of them that make a difference; a bad column or a cosmic ray does not, nor does which of
two tiles has a few pixels less of a saturated star.  Below the first nothing is detected."""
BLOCK = 512
"""Side of the squares in which pixels are read, fixed to the tile: what a reader makes of a region
as a whole, such as its noise, must not depend on who asks for which part of it."""


def coverage(
    header: TileHeader,
    pixels: NDArray[np.int64],
    survey: Survey,
    bad_planes: tuple[str, ...] | None,
) -> NDArray[np.float64]:
    """Return how well a tile covers its pixels ``(n, 2)`` (x, y), from 0 to 1.

    It is the mean over the bands asked for of the part of the pixels around that are usable, in
    `STEPS`; 0 too where a tile cannot be read at all, since its cells fail there.

    Raises
    ------
    TileError
        If the storage does not answer, so that nobody knows.
    """
    covered = np.zeros(len(pixels))
    blocks, number = np.unique(pixels // BLOCK, axis=0, return_inverse=True)
    for i, (column, row) in enumerate(blocks.tolist()):
        here = number.ravel() == i
        corner = row * BLOCK, column * BLOCK
        box = Box(*corner, corner[0] + BLOCK, corner[1] + BLOCK).grow(RADIUS)
        usable = _usable(header, box, survey, bad_planes)
        covered[here] = _covered(usable, pixels[here] - corner[::-1])
    return covered


def _covered(usable: BoolArray, pixels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the coverage of pixels of a block from ``(bands, y, x)`` of it and its margin."""
    side = 2 * RADIUS + 1
    x, y = pixels.T
    around = sliding_window_view(usable, (side, side), (1, 2))[:, y, x]
    steps = np.searchsorted(STEPS, around.mean(axis=(2, 3)), side="right")
    return np.asarray(steps.sum(axis=0) / (len(STEPS) * len(usable)))


def _usable(
    header: TileHeader, box: Box, survey: Survey, bad_planes: tuple[str, ...] | None
) -> BoolArray:
    """Return which pixels ``(bands, y, x)`` of a box can be used; none off the tile."""
    usable = np.zeros((len(header.bands), *box.shape), dtype=bool)
    try:
        tile = read_tile(header, box, survey, bad_planes)
    except TileError as error:
        if _unanswered(error.__cause__):
            raise
        return usable
    usable[(..., *tile.box.shift(-box.y0, -box.x0).slices)] = ~tile.unusable
    return usable


def _unanswered(cause: BaseException | None) -> bool:
    """Tell trouble with the storage, which may pass, from a file that is gone or damaged."""
    if isinstance(cause, FileNotFoundError | PermissionError):
        return False
    # What astropy says of a damaged file is an OSError too, but not one of the system's.
    of_system = isinstance(cause, OSError) and cause.errno is not None
    return of_system or isinstance(cause, storage.NO_ANSWER)
