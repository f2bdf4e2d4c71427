"""−ln prior of one source with its derivatives, as `fit.priors.log_prior` has them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.cache import part
from raydeblend.fit.sersic import LOG_INDICES

Array = NDArray[np.float64]

PARAMETERS = 9
_LEAST_LOG_INDEX, _MOST_LOG_INDEX = LOG_INDICES
MOST_BULGE_SHEAR = 0.95
"""Bulges of this shear or more are outside the domain; for disks the prior sees to that."""


class Prior(NamedTuple):
    """The numbers of `BulgeDiskPriors` by their names."""

    center: float
    shape: float
    log_radius: float
    log_radius_scatter: float
    log_ratio: float
    log_ratio_scatter: float
    most_log_ratio: float
    ratio_wall: float
    alignment: float
    alignment_scatter: float
    index_width: float
    index_wall: float
    bulge: float
    bulge_scatter: float
    largest: float
    largest_scatter: float


@part()
def inside(theta: Array) -> bool:
    """Tell whether the shears of a source ``(9,)`` are in the domain."""
    room = 1 - theta[2] ** 2 - theta[3] ** 2
    return bool(room > 1e-6 and theta[6] ** 2 + theta[7] ** 2 < MOST_BULGE_SHEAR**2)


@part()
def log_prior(
    prior: Prior, theta: Array, start: Array, compact: bool, gradient: Array, curvature: Array
) -> float:
    """Return −ln p, and write its gradient ``(9,)`` and positive curvature ``(9, 9)``.

    Position, sizes and the bulge's shear are Gaussian; the disk's shear has p(g) ∝ (1 − g²)²
    exp(−g²/2σ²) (Bernstein & Armstrong 2014, eq. 24); radii of bulges over disks, and of compact
    ones, end softly; ln n has a Cauchy distribution.
    """
    for i in range(PARAMETERS):
        gradient[i] = 0
        for j in range(PARAMETERS):
            curvature[i, j] = 0
    penalty = 0.0
    for i in range(2):
        penalty += _normal(theta[i] - start[i], prior.center, i, i, 0.0, gradient, curvature)
        own = 2 + i
        penalty += _normal(theta[own], prior.shape, own, own, 0.0, gradient, curvature)
        off = theta[6 + i] - prior.alignment * theta[own]
        penalty += _normal(
            off, prior.alignment_scatter, 6 + i, own, prior.alignment, gradient, curvature
        )
    off = theta[4] - prior.log_radius
    penalty += _normal(off, prior.log_radius_scatter, 4, 4, 0.0, gradient, curvature)
    off = theta[5] - theta[4] - prior.log_ratio
    penalty += _normal(off, prior.log_ratio_scatter, 5, 4, 1.0, gradient, curvature)
    off = theta[5] - theta[4] - prior.most_log_ratio
    if off > 0:
        penalty += _normal(off, prior.ratio_wall, 5, 4, 1.0, gradient, curvature)
    penalty += _barrier(theta, gradient, curvature)
    penalty += _index(prior, theta[8], gradient, curvature)
    if compact:
        for size in (4, 5):
            off = theta[size] - prior.largest
            if off > 0:
                penalty += _normal(off, prior.largest_scatter, size, size, 0.0, gradient, curvature)
    return penalty if inside(theta) else np.inf


@part()
def _index(prior: Prior, log_index: float, gradient: Array, curvature: Array) -> float:
    """Return ln(1 + (ln n / width)²), with walls where the Gaussians end, added to derivatives."""
    room = prior.index_width**2 + log_index**2
    gradient[8] += 2 * log_index / room
    curvature[8, 8] += 2 / room
    penalty = np.log(room / prior.index_width**2)
    over = log_index - min(max(log_index, _LEAST_LOG_INDEX), _MOST_LOG_INDEX)
    if over != 0:
        penalty += _normal(over, prior.index_wall, 8, 8, 0.0, gradient, curvature)
    return float(penalty)


@part()
def _normal(
    off: float,
    scatter: float,
    own: int,
    other: int,
    share: float,
    gradient: Array,
    curvature: Array,
) -> float:
    """Add (off / scatter)² / 2 to the derivatives, off = theta[own] − share theta[other] − mean."""
    stiffness = 1 / scatter**2
    gradient[own] += off * stiffness
    curvature[own, own] += stiffness
    if share != 0:
        gradient[other] -= share * off * stiffness
        curvature[other, other] += share * share * stiffness
        curvature[own, other] -= share * stiffness
        curvature[other, own] -= share * stiffness
    return 0.5 * off * off * stiffness


@part()
def _barrier(theta: Array, gradient: Array, curvature: Array) -> float:
    """Return −2 ln(1 − g²) of the disk's shear, added to the derivatives."""
    room = 1 - theta[2] ** 2 - theta[3] ** 2
    if not inside(theta):
        room = 1.0
    for i in (2, 3):
        gradient[i] += 4 * theta[i] / room
        curvature[i, i] += 4 / room
        for j in (2, 3):
            curvature[i, j] += 8 * theta[i] * theta[j] / room**2
    return float(-2 * np.log(room))
