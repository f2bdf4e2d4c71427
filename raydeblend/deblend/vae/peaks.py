"""Where the autoencoder looks for galaxies: peaks of a stamp, and of what first models leave."""

from __future__ import annotations

import numpy as np

from raydeblend.deblend.peaks import stamp_peaks
from raydeblend.deblend.vae.config import VAE
from raydeblend.tile import FloatArray


def detect(image: FloatArray, weight: FloatArray, width: float) -> FloatArray:
    """Return the peaks ``(k, 2)`` (x, y) of one stamp, highest first.

    Parameters
    ----------
    image, weight
        ``(bands, y, x)`` in noise units, and the inverse variance.
    width
        Of the PSF in pixels (sigma).
    """
    return stamp_peaks(image, weight, width)[: VAE.max_sources].astype(np.float32)


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
    doubted = weight / (1 + weight * (VAE.residual_error * model) ** 2)
    peaks = detect(image - model, doubted, width)
    distance = np.linalg.norm(peaks[:, None] - known[None], axis=2).min(axis=1, initial=np.inf)
    return np.asarray(peaks[distance > VAE.apart][: max(VAE.max_sources - len(known), 0)])
