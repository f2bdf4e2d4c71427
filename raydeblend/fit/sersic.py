"""Sérsic profiles of any index as sums of the same Gaussians, whose weights follow the index.

The light of index n (Sérsic 1963) and half-light radius 1 is I(r) ∝ exp(−b r^(1/n)), with b from
Γ(2n, b) = Γ(2n) / 2 (Graham & Driver 2005, PASA 22, 118).  Its Gaussians have the variances
`VARIANCES` whatever the index, so that only their weights change in a fit; they minimize the
integral of (mixture − profile)² r³ dr, both of unit flux.  Weights may be negative: profiles
flatter than a Gaussian, n < 0.5, need them.  The light within any radius is right to 0.2 % of the
whole for n from 0.4 to 1.5, 0.5 % for 2, 3 % for 4 and 5 % for 6, where the cusp is too flat.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.special import gamma, gammaincinv

from raydeblend.fit.psf import one_blas_thread

Array = NDArray[np.float64]

LEAST_INDEX, MOST_INDEX = 0.3, 6.0
LOG_INDICES = float(np.log(LEAST_INDEX)), float(np.log(MOST_INDEX))
"""Between them weights follow ln n; beyond them they stay."""
# One of them is near the variance of n = 0.5, a Gaussian's, 0.72.
VARIANCES: Array = np.asarray(0.015 * 2.586 ** np.arange(10.0))
"""Along an axis, for a half-light radius of 1."""
DEGREE = 14
"""Of the polynomials in ln n; they follow the weights to 1e-4."""

# Radii in half-light radii at which mixture and profile are compared.
_RADII = np.geomspace(1e-3, 40, 800)
# Keeps weights that undo each other small.
_RIDGE = 1e-3
_UNIT_FLUX = 1e2


def brightness(index: float, radius: Array) -> Array:
    """Return the profile of unit flux and half-light radius 1 at some radii."""
    b = gammaincinv(2 * index, 0.5)
    flux = 2 * np.pi * index * gamma(2 * index) * b ** (-2 * index)
    return np.asarray(np.exp(-b * radius ** (1 / index)) / flux)


def index_weights(index: float) -> Array:
    """Return the weights of the Gaussians of `VARIANCES` for an index."""
    images = np.exp(-0.5 * _RADII[:, None] ** 2 / VARIANCES) / (2 * np.pi * VARIANCES)
    root = np.sqrt(_RADII**3 * np.gradient(_RADII))
    size = len(VARIANCES)
    unit_flux = np.full((1, size), _UNIT_FLUX)
    rows = np.concatenate([images * root[:, None], _RIDGE * np.eye(size), unit_flux])
    right = np.concatenate([brightness(index, _RADII) * root, np.zeros(size), unit_flux[0, :1]])
    with one_blas_thread():
        weights = np.linalg.lstsq(rows, right, rcond=None)[0]
    return np.asarray(weights / weights.sum())


def weights_at(log_index: Array) -> Array:
    """Return the weights ``(..., k)`` for ln n, cut off at `LOG_INDICES`."""
    low, high = LOG_INDICES
    x = 2 * (np.clip(log_index, low, high) - low) / (high - low) - 1
    return np.asarray(chebyshev.chebvander(x, DEGREE) @ weight_polynomials().T)


@cache
def weight_polynomials() -> Array:
    """Return the weights as Chebyshev series in ln n, scaled to `LOG_INDICES`: ``(k, degree + 1)``.

    See `weights_at` for their values.
    """
    nodes = chebyshev.chebpts1(DEGREE + 1)
    low, high = LOG_INDICES
    at_nodes = [index_weights(float(np.exp(low + (high - low) * (x + 1) / 2))) for x in nodes]
    series = np.linalg.solve(chebyshev.chebvander(nodes, DEGREE), np.array(at_nodes))
    return np.ascontiguousarray(series.T, dtype=np.float64)
