"""The noise of an image that comes without a variance plane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.fits.noise import neighbor_noise
from raydeblend.tile import FloatArray


def difference_noise(image: NDArray[np.floating]) -> FloatArray:
    """Return the noise of a pixel ``(...)`` of images ``(..., y, x)``; NaN pixels do not count.

    From horizontal neighbors, see `raydeblend.fits.noise.neighbor_noise`; 0 without any.
    """
    images = np.asarray(image).reshape(-1, *image.shape[-2:])
    noise = [neighbor_noise(each) for each in images]
    return np.asarray(noise, dtype=np.float32).reshape(image.shape[:-2])
