"""Where the autoencoder looks for galaxies: peaks of a stamp, and of what first models leave."""

from __future__ import annotations

import numpy as np

from raydeblend.deblend.peaks import stamp_peaks
from raydeblend.tile import FloatArray

MAX_SOURCES = 12
"""Peaks in one stamp, the highest; there are rarely more than a handful."""
APART = 4.0
"""Pixels from the known peaks within which a residual is theirs."""
RESIDUAL_ERROR = 0.4
"""Error of a first model, as a part of its light: what it may leave is no galaxy."""


def detect(image: FloatArray, weight: FloatArray, width: float) -> FloatArray:
    """Return the peaks ``(k, 2)`` (x, y) of one stamp, highest first.

    Parameters
    ----------
    image, weight
        ``(bands, y, x)`` in noise units, and the inverse variance.
    width
        Of the PSF in pixels (sigma).
    """
    return stamp_peaks(image, weight, width)[:MAX_SOURCES].astype(np.float32)


def detect_missed(
    image: FloatArray, weight: FloatArray, model: FloatArray, known: FloatArray, width: float
) -> FloatArray:
    """Return the peaks ``(k, 2)`` of what a model leaves of a stamp, highest first.

    Parameters
    ----------
    image, weight, model
        ``(bands, y, x)`` in noise units, and the inverse variance.
    known
        ``(m, 2)`` peaks (x, y) that the model is of.
    width
        Of the PSF in pixels (sigma).
    """
    doubted = weight / (1 + weight * (RESIDUAL_ERROR * model) ** 2)
    peaks = detect(image - model, doubted, width)
    distance = np.linalg.norm(peaks[:, None] - known[None], axis=2).min(axis=1, initial=np.inf)
    return np.asarray(peaks[distance > APART][: max(MAX_SOURCES - len(known), 0)])
