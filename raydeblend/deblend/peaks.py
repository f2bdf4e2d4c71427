"""Peaks of prepared stamps, found with a filter as wide as their PSF."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raydeblend.detect.footprints import (
    DetectConfig,
    gaussian_width,
    matched_filter,
    significant_peaks,
)
from raydeblend.tile import FloatArray

DETECT = DetectConfig()
PSF_WIDTH = 1.5
"""Pixels (sigma) where no PSF is given: HSC's i band in median seeing."""


def stamp_peaks(image: FloatArray, weight: FloatArray, width: float) -> NDArray[np.float64]:
    """Return the peaks ``(m, 2)`` (x, y) of one stamp, the highest first.

    Parameters
    ----------
    image, weight
        ``(bands, y, x)`` in noise units, and the inverse variance.
    width
        Of the PSF in pixels (sigma).
    """
    return peaks_of(matched_filter(image, weight, width), width)


def peaks_of(significance: FloatArray, width: float) -> NDArray[np.float64]:
    """Return `stamp_peaks` of a stamp whose significance ``(y, x)`` is known."""
    return significant_peaks(significance, width, DETECT)[1]


def psf_widths(psf: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """Return the width (sigma, pixels) of a Gaussian as high as the PSF of each of `n` stamps.

    `psf` is ``(bands, py, px)`` or ``(n, bands, py, px)``; without it a usual seeing is taken.
    """
    if psf is None:
        return np.full(n, PSF_WIDTH)
    return np.broadcast_to([gaussian_width(list(bands)) for bands in _each(psf)], (n,))


def band_psf_widths(psf: ArrayLike | None, n: int, n_bands: int) -> NDArray[np.float64]:
    """Return the `psf_widths` of each band alone, ``(n, bands)``."""
    if psf is None:
        return np.full((n, n_bands), PSF_WIDTH)
    widths = [[gaussian_width([band]) for band in bands] for bands in _each(psf)]
    return np.broadcast_to(widths, (n, n_bands))


def _each(psf: ArrayLike) -> NDArray[np.float64]:
    """Return ``(n, bands, py, px)`` of a PSF for each stamp, or of one for all."""
    given = np.asarray(psf, dtype=np.float64)
    return given if given.ndim == 4 else given[np.newaxis]
