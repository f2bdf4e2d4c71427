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
    return float(found_median(np.ravel(error), axis=0))


def flux_nmad(error: Floats) -> float:
    """1.4826 times the median absolute deviation of ``F / F_true - 1`` over the found."""
    return float(found_nmad(np.ravel(error), axis=0))


def found_median(error: Floats, axis: int) -> NDArray[np.float64]:
    """Median along an axis with NaN left out; NaN of nothing else, without a warning."""
    if not error.shape[axis]:
        return np.full(np.delete(error.shape, axis), np.nan)
    # A sort puts NaN last; numpy's own nanmedian is many times slower.
    ordered = np.sort(np.where(np.isfinite(error), error, np.nan), axis=axis)
    n = np.isfinite(ordered).sum(axis=axis, keepdims=True)
    middle = (np.maximum(n - 1, 0) // 2, np.minimum(n // 2, ordered.shape[axis] - 1))
    low, high = (np.take_along_axis(ordered, place, axis) for place in middle)
    return np.asarray(np.squeeze(low + high, axis=axis) / 2, dtype=np.float64)


def found_nmad(error: Floats, axis: int) -> NDArray[np.float64]:
    """1.4826 times the median absolute deviation along an axis, NaN left out."""
    center = np.expand_dims(found_median(error, axis), axis)
    return 1.4826 * found_median(np.abs(error - center), axis)


def capped_mean(error: Floats, axis: int) -> NDArray[np.float64]:
    """Mean of ``min(|error|, 1)`` along an axis; NaN, a missing source, counts as 1."""
    capped = np.minimum(np.abs(np.nan_to_num(error, nan=1.0)), 1.0)
    return np.asarray(np.mean(capped, axis=axis), dtype=np.float64)


def second_moments(images: Floats) -> NDArray[np.float64]:
    """Unweighted second moments about the centroid (Wang et al. 2022, section III.B).

    Parameters
    ----------
    images
        ``(..., bands, y, x)``; the bands are added.

    Returns
    -------
    ``(..., 2)``: μ11 and μ20 − μ02 in pixels², divided by the flux; NaN for an image without a
    positive sum.
    """
    light = np.sum(images, axis=-3, dtype=np.float64)
    total = light.sum(axis=(-2, -1))
    light = light / np.where(total > 0, total, np.nan)[..., None, None]
    columns, rows = light.sum(axis=-2), light.sum(axis=-1)
    x, y = np.arange(light.shape[-1]), np.arange(light.shape[-2])
    mean_x, mean_y = columns @ x, rows @ y
    product = np.einsum("...yx,y,x->...", light, y, x)
    return np.stack(
        [product - mean_x * mean_y, columns @ x**2 - mean_x**2 - (rows @ y**2 - mean_y**2)],
        axis=-1,
    )


def second_moment_size(moments: Floats) -> NDArray[np.float64]:
    """Return ``|μ2| = sqrt((μ20 − μ02)² + (2 μ11)²)`` of `second_moments`, free of rotation."""
    return np.asarray(np.hypot(2 * moments[..., 0], moments[..., 1]), dtype=np.float64)


def amplitudes(models: Floats, truths: Floats) -> NDArray[np.float64]:
    """Least-squares amplitudes of the true images in each model: who got whose light.

    Parameters
    ----------
    models, truths
        ``(k, bands, y, x)`` and ``(m, bands, y, x)``.

    Returns
    -------
    ``(k, m)``; truths that cannot be distinguished each get the same share.
    """
    basis = np.reshape(truths, (len(truths), -1)).astype(np.float64)
    target = np.reshape(models, (len(models), -1)).astype(np.float64)
    inverse = np.linalg.pinv(basis @ basis.T, rcond=1e-6, hermitian=True)
    return np.asarray(target @ basis.T @ inverse)
