"""Images smoothed with a Gaussian: by a loop over pixels, or stamps by products of matrices."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.floating[Any]]
Smoothing = Callable[[Image, float], Image]

LARGEST = 128
"""Side in pixels up to which products are faster."""


def smoothed(image: Image, width: float) -> Image:
    """Return an image ``(y, x)`` convolved with a Gaussian of unit sum, 0 beyond its edges.

    `width` is its standard deviation in pixels.
    """
    return np.asarray(ndimage.gaussian_filter(image, width, mode="constant"))


def smoothed_stamp(image: Image, width: float) -> Image:
    """Return `smoothed` of a stamp, for which calling a filter takes longer than the sums.

    Not for parts of a tile: rounding differs with the size, and cuts would show.
    """
    if max(image.shape) > LARGEST:
        return smoothed(image, width)
    rows, columns = (_matrix(size, width) for size in image.shape)
    return np.asarray(rows @ image.astype(np.float32, copy=False) @ columns.T)


@lru_cache(maxsize=256)
def _matrix(size: int, width: float) -> NDArray[np.float32]:
    """Return the matrix ``(size, size)`` that smooths along one axis."""
    each = np.eye(size, dtype=np.float32)
    return np.asarray(ndimage.gaussian_filter1d(each, width, axis=0, mode="constant"))
