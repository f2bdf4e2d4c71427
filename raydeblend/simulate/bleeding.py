"""Charge beyond a pixel's full well runs along its column: the trails of saturated stars."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def bleed(image: FloatArray, full: float) -> FloatArray:
    """Spill what exceeds `full` along the columns, half of it each way, charge conserved.

    What would leave the image is lost.

    Parameters
    ----------
    image
        ``(y, x)`` in the unit of `full`.
    """
    spilled = image.copy()
    for column in np.flatnonzero((image > full).any(axis=0)):
        half = np.maximum(image[:, column] - full, 0) / 2
        line = np.minimum(image[:, column], full)
        line = _run(line, half, full)
        spilled[:, column] = _run(line[::-1], half[::-1], full)[::-1]
    return spilled


def _run(line: FloatArray, excess: FloatArray, full: float) -> FloatArray:
    """Carry the excess of each pixel to the next ones ``(y,)`` that have room."""
    result, carried = line.copy(), 0.0
    for y in range(len(line)):
        taken = min(carried, max(full - line[y], 0.0))
        result[y] += taken
        carried += excess[y] - taken
    return result
