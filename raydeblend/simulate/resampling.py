"""The noise of a coadd whose exposures were resampled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float64]

TAPS = 6


def lanczos_weights() -> Array:
    """Return the weights ``(6,)`` of a Lanczos-3 interpolation half-way between pixels."""
    x = np.arange(TAPS) - (TAPS - 1) / 2
    weights = np.sinc(x) * np.sinc(x / (TAPS // 2))
    return np.asarray(weights / weights.sum())


def resample(noise: Array, variance: Array) -> tuple[Array, Array]:
    """Return noise ``(y, x)`` shifted by half a pixel along both axes, and its variance.

    Of white noise a pixel then has 0.6 of the variance, but a sum over many pixels all of it.
    """
    weights = lanczos_weights()
    return _along_both(noise, weights), _along_both(variance, weights**2)


def _along_both(image: Array, weights: Array) -> Array:
    rows = ndimage.correlate1d(image, weights, axis=0, mode="mirror")
    return np.asarray(ndimage.correlate1d(rows, weights, axis=1, mode="mirror"))
