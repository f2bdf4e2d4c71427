"""The input samples of the compiled fits, contiguous in memory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.gaussians import BLOCK

FloatArray = NDArray[np.float32]

TILE = 8
"""Side in pixels of the squares whose samples are adjacent, so that blocks are compact."""


class Samples(NamedTuple):
    """Samples of a blend, padded to whole blocks with samples of weight 0.

    Attributes
    ----------
    data, weight
        ``(b, p)`` in units of the band's noise.
    x, y
        ``(p,)`` in pixels.
    """

    data: FloatArray
    weight: FloatArray
    x: FloatArray
    y: FloatArray


def make_samples(data: FloatArray, weight: FloatArray, xy: FloatArray) -> Samples:
    """Put samples ``(b, p)`` at ``(2, p)`` in the order and size that the fit needs."""
    tile = np.floor_divide(xy, TILE)
    order = np.lexsort((tile[0], tile[1]))
    size = max(-(-len(order) // BLOCK), 1) * BLOCK
    return Samples(
        _filled(data[:, order], size), _filled(weight[:, order], size), *_filled(xy[:, order], size)
    )


def _filled(rows: FloatArray, size: int) -> FloatArray:
    out = np.zeros((len(rows), size), dtype=np.float32)
    out[:, : rows.shape[1]] = rows
    return out
