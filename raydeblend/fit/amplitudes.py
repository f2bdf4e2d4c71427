"""Amplitudes of fixed templates, by weighted least squares over all sources of a blend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RIDGE = 1e-6
"""Relative to a template's own norm: two equal templates share the light."""
SHOWN = 0.01
"""Least part of a template's squares that a band must show of what any band shows, to tell its
amplitude."""


@dataclass(frozen=True)
class Amplitudes:
    """Solution of n blends of k sources.

    Attributes
    ----------
    value
        ``(n, k, bands)``; 0 for a template that is zero.
    covariance
        ``(n, bands, k, k)`` between the sources.
    norm
        ``(n, k, bands)``: Σ w t² of each template.
    """

    value: NDArray[np.float64]
    covariance: NDArray[np.float64]
    norm: NDArray[np.float64]


def are_hidden(weight: NDArray[np.floating], templates: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Tell which templates ``(n, k, bands)`` a band hardly shows though others do.

    `weight` and `templates` are those of `solve_amplitudes`.  A band without any weight in a blend
    hides nothing: it is missing.
    """
    good = weight > 0
    there = np.asarray(good.any(axis=(2, 3)))
    anywhere = np.asarray(good.any(axis=1, keepdims=True))
    hidden = np.zeros(templates.shape[:3], dtype=bool)
    for row in np.flatnonzero((there[:, :, None, None] & (good != anywhere)).any(axis=(1, 2, 3))):
        squares = templates[row].astype(np.float64) ** 2
        seen = (squares * good[row]).sum(axis=(2, 3))
        most = (squares * anywhere[row]).sum(axis=(2, 3))
        hidden[row] = there[row] & (seen < SHOWN * most)
    return hidden


def solve_amplitudes(
    image: NDArray[np.floating], weight: NDArray[np.floating], templates: NDArray[np.floating]
) -> Amplitudes:
    """Fit one amplitude per source and band, all sources of a blend at once.

    As T-PHOT does with the models of another instrument (Merlin et al. 2015, section 2).

    Parameters
    ----------
    image, weight
        ``(n, bands, y, x)`` and its inverse variance, 0 where unusable.
    templates
        ``(n, k, bands, y, x)``.
    """
    weighted = templates * weight[:, None]
    normal = np.einsum("nkbyx,nlbyx->nbkl", weighted, templates, dtype=np.float64)
    right = np.einsum("nkbyx,nbyx->nbk", weighted, image, dtype=np.float64)
    own = np.diagonal(normal, axis1=2, axis2=3)
    ridge = np.where(own > 0, RIDGE * own, 1.0)
    covariance = np.linalg.inv(normal + ridge[..., None] * np.eye(templates.shape[1]))
    value = np.einsum("nbkl,nbl->nkb", covariance, right)
    return Amplitudes(value, covariance, own.swapaxes(1, 2))


def fit_amplitudes(
    image: NDArray[np.floating], weight: NDArray[np.floating], templates: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the amplitudes ``(n, k, bands)`` of `solve_amplitudes` where they can be told.

    At least 0, and 0 of a template that is zero; 1 where a band hardly shows a template that
    others show.
    """
    solution = solve_amplitudes(image, weight, templates)
    return np.where(are_hidden(weight, templates), 1.0, np.maximum(solution.value, 0))
