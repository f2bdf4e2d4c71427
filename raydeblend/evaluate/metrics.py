"""Metrics of DESIGN section 2: PSNR and SSIM of the images, bias and scatter of the fluxes.

Images are ``(bands, y, x)``; `peak` is the maximum of the noisy blend, by which model and truth
are divided so that MAX = 1 (Wang et al. 2022, equations 5 and 6).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

Floats = NDArray[np.floating]


def psnr(model: Floats, truth: Floats, peak: float) -> float:
    """Peak signal-to-noise ratio in dB over all bands and pixels; infinite for equal images."""
    error = (np.asarray(model, dtype=np.float64) - truth) / peak
    mean_square = float(np.mean(error**2))
    return -10 * float(np.log10(mean_square)) if mean_square > 0 else float("inf")


def ssim(model: Floats, truth: Floats, peak: float) -> float:
    """Structural similarity (Wang et al. 2004), the mean over the bands."""
    first, second = (np.asarray(image, dtype=np.float64) / peak for image in (truth, model))
    return float(structural_similarity(first, second, data_range=1, channel_axis=0))


def flux(images: Floats) -> NDArray[np.float64]:
    """Sum over bands and pixels, the last three axes."""
    # Sums of float16 pixels overflow or lose digits.
    return np.asarray(np.sum(images, axis=(-3, -2, -1), dtype=np.float64))


def flux_bias(error: Floats) -> float:
    """Median of ``F / F_true - 1`` over the found; NaN (a missing source) is left out."""
    found = error[np.isfinite(error)]
    return float(np.median(found)) if found.size else float("nan")


def flux_nmad(error: Floats) -> float:
    """1.4826 times the median absolute deviation of ``F / F_true - 1`` over the found."""
    return 1.4826 * flux_bias(np.abs(error - flux_bias(error)))


def flux_mape(error: Floats) -> float:
    """Mean of ``min(|F / F_true - 1|, 1)`` over all; a missing source (NaN) counts as 1."""
    return float(np.mean(np.minimum(np.abs(np.nan_to_num(error, nan=1.0)), 1.0)))


def found_fraction(error: Floats) -> float:
    """Fraction of the sources that were found, that is, whose error is not NaN."""
    return float(np.mean(np.isfinite(error)))
