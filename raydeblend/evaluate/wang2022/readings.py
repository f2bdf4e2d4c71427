"""The PSNR of Wang et al. (2022) by every normalization that fits their text.

They print ``20 log10(MAX) - 10 log10(MSE)`` with MAX "the maximum pixel value of the ground truth"
(Eq. 5), blends "normalized to [0, 1]", true galaxies "scaled to [-1, 1]", bands "converted into
RGB images" (section II.D), and residuals divided "with the maximum pixel values" (section II.E),
but not by which maximum, nor in which of these units the error is.  `PSNR_READINGS` are the
choices; the first one is what the other tables have.

A stretched RGB image does not fit: the paper subtracts images and adds up pixels to fluxes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from raydeblend.evaluate.common.blends import Blends
from raydeblend.tile import FloatArray

Floats = NDArray[np.float64]

GRAY_LEVELS = 255
"""Of an 8-bit RGB image, which is what BlendingToolKit's own conversion makes."""


def _mean_square(error: NDArray[np.floating]) -> Floats:
    return np.asarray(np.mean(np.square(error, dtype=np.float64), axis=(-3, -2, -1)))


def _maximum(images: FloatArray) -> Floats:
    return np.asarray(images.max(axis=(-3, -2, -1)), dtype=np.float64)


def by_blend(blends: Blends, models: FloatArray) -> Floats:
    """Return the mean square of model less truth over the maximum of the noisy blend."""
    return _mean_square(models - blends.isolated) / _maximum(blends.images)[:, None] ** 2


def by_blend_signed(blends: Blends, models: FloatArray) -> Floats:
    """Return the same in [-1, 1]: errors are twice as large, MAX is 1 as before."""
    return 4 * by_blend(blends, models)


def by_truth(blends: Blends, models: FloatArray) -> Floats:
    """Return the mean square over the square of MAX, that of each true galaxy."""
    return _mean_square(models - blends.isolated) / _maximum(blends.isolated) ** 2


def by_truth_signed(blends: Blends, models: FloatArray) -> Floats:
    """Return the same with each true galaxy stretched to [-1, 1]."""
    return 4 * by_truth(blends, models)


def by_input(blends: Blends, models: FloatArray) -> Floats:
    """Return the mean square over the maximum of what each galaxy is peeled from.

    That is the blend less the models of the brighter ones.
    """
    brighter = np.cumsum(models, axis=1) - models
    maximum = _maximum(blends.images[:, None] - brighter)
    return _mean_square(models - blends.isolated) / maximum**2


def by_band(blends: Blends, models: FloatArray) -> Floats:
    """Return the mean square where each band is divided by its own maximum in the blend."""
    maximum = blends.images.max(axis=(-2, -1), keepdims=True)[:, None]
    return _mean_square((models - blends.isolated) / maximum)


def by_gray_levels(blends: Blends, models: FloatArray) -> Floats:
    """Return that of `by_blend` with the truth rounded to gray levels; the model is no picture."""
    maximum = _maximum(blends.images)[:, None]
    level = maximum[..., None, None, None] / GRAY_LEVELS
    rounded = level * np.round(blends.isolated / level)
    return _mean_square(models - rounded) / maximum**2


PSNR_READINGS: Mapping[str, Callable[[Blends, FloatArray], Floats]] = {
    "blend [0, 1]": by_blend,
    "blend [-1, 1]": by_blend_signed,
    "truth [0, 1]": by_truth,
    "truth [-1, 1]": by_truth_signed,
    "input [0, 1]": by_input,
    "bands [0, 1]": by_band,
    "8 bits": by_gray_levels,
}
"""Squared errors over MAX squared, ``(n, k)``, of blends and models ``(n, k, bands, y, x)``."""


def psnr_readings(blends: Blends, models: FloatArray) -> Floats:
    """Return the PSNR ``(n, k, readings)`` in dB of models matched to the true galaxies."""
    with np.errstate(divide="ignore"):
        errors = [reading(blends, models) for reading in PSNR_READINGS.values()]
        return -10 * np.log10(np.stack(errors, axis=-1))
