"""Amplitudes of fixed templates, by weighted least squares over all sources of a blend."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.amplitudes import are_hidden, solve_amplitudes
from raydeblend.tile import FloatArray


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
        ``(n, k, bands)``, at least 0; 1 where a band hardly shows a template that others show.
    """
    solution = solve_amplitudes(image, weight, templates)
    return np.where(are_hidden(weight, templates), 1.0, np.maximum(solution.value, 0))
