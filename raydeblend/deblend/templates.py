"""Amplitudes of fixed templates, by weighted least squares over all sources of a blend."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.tile import FloatArray

RIDGE = 1e-6
"""Relative to a template's own norm: two equal templates share the light."""


def fit_amplitudes(
    image: FloatArray, weight: FloatArray, templates: FloatArray
) -> NDArray[np.float64]:
    """Fit one amplitude per source and band, all sources of a blend at once.

    As T-PHOT does with the models of another instrument (Merlin et al. 2015, section 2).

    Parameters
    ----------
    image, weight
        ``(n, bands, y, x)`` and its inverse variance, 0 where unusable.
    templates
        ``(n, k, bands, y, x)``; one that is zero gets amplitude 0.

    Returns
    -------
    amplitudes
        ``(n, k, bands)``, at least 0.
    """
    weighted = templates * weight[:, None]
    normal = np.einsum("nkbyx,nlbyx->nbkl", weighted, templates, dtype=np.float64)
    right = np.einsum("nkbyx,nbyx->nbk", weighted, image, dtype=np.float64)
    own = np.diagonal(normal, axis1=2, axis2=3)
    ridge = np.where(own > 0, RIDGE * own, 1.0)
    normal = normal + ridge[..., None] * np.eye(templates.shape[1])
    amplitudes = np.linalg.solve(normal, right[..., None])[..., 0]
    return np.asarray(np.maximum(amplitudes, 0).swapaxes(1, 2))
