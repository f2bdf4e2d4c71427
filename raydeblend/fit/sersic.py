"""Sérsic profiles of any index as sums of the same Gaussians, whose weights follow the index.

The light of index n (Sérsic 1963) and half-light radius 1 is I(r) ∝ exp(−b r^(1/n)), with b from
Γ(2n, b) = Γ(2n) / 2 (Graham & Driver 2005, PASA 22, 118).  Its Gaussians have the variances
`VARIANCES` whatever the index, so that only their weights change in a fit.  The weights are those
of least squares to the light within a radius, at radii evenly spaced in the logarithm; they may be
negative: profiles flatter than a Gaussian, n < 0.5, need that.  The variances are those of the
least maximum error over all radii and indices, relative to 0.1 % of the light for n up to 2.6 and
more for the cusps and wings of steeper ones: 0.1 % is reached for n from 0.4 to 3, 0.15 % for 4 and
0.5 % for 6.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincinv

from raydeblend.fit.psf import one_blas_thread

Array = NDArray[np.float64]

LEAST_INDEX, MOST_INDEX = 0.3, 6.0
LOG_INDICES = float(np.log(LEAST_INDEX)), float(np.log(MOST_INDEX))
"""Between them weights follow ln n; beyond them they stay."""
# One of them is near the variance of n = 0.5, a Gaussian's, 0.72.
VARIANCES: Array = np.array(
    [5.46e-4, 8.12e-3, 5.50e-2, 0.2433, 0.714, 1.016, 2.133, 7.05, 32.7, 263.0]
)
"""Along an axis, for a half-light radius of 1."""
BULGE_INDEX = 4.0
"""Of de Vaucouleurs' profile, which bulges have."""
BULGE_VARIANCES: Array = np.array([1.44e-3, 2.39e-2, 0.2036, 1.407, 9.70, 88.5])
"""The same for bulges alone, whose light within a radius is right to 0.3 %."""
DEGREE = 14
"""Of the polynomials in ln n; they follow the weights to 1e-4."""

# Radii in half-light radii at which mixture and profile are compared.
_RADII = np.geomspace(0.02, 30, 160)
# Keeps weights that undo each other small.
_RIDGE = 1e-3
_UNIT_FLUX = 1e2


def light_within(index: float, radius: Array) -> Array:
    """Return the part of the light within some radii, for a half-light radius of 1."""
    b = gammaincinv(2 * index, 0.5)
    return np.asarray(gammainc(2 * index, b * radius ** (1 / index)))


def index_weights(index: float, variances: Array = VARIANCES) -> Array:
    """Return the weights, of sum 1, of Gaussians of some variances for an index."""
    inside = 1 - np.exp(-0.5 * _RADII[:, None] ** 2 / variances)
    size = len(variances)
    unit_flux = np.full((1, size), _UNIT_FLUX)
    rows = np.concatenate([inside, _RIDGE * np.eye(size), unit_flux])
    right = np.concatenate([light_within(index, _RADII), np.zeros(size), [_UNIT_FLUX]])
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
