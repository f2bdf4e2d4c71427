"""The noise of an image that comes without a variance plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.tile import FloatArray


def difference_noise(image: NDArray[np.floating]) -> FloatArray:
    """Return the noise of a pixel ``(...)`` of images ``(..., y, x)``; NaN pixels do not count.

    From the median absolute difference of horizontal neighbours, which share the smooth light of a
    galaxy but not the noise.  0 where there are none.
    """
    difference = np.abs(np.diff(image, axis=-1))
    usable = np.isfinite(difference).any(axis=(-2, -1), keepdims=True)
    median = np.nanmedian(np.where(usable, difference, 0), axis=(-2, -1))
    return np.asarray(median * np.float32(1.4826 / np.sqrt(2)))
