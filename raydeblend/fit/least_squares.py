"""A small, dense least-squares problem, by Levenberg–Marquardt on its normal equations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Residuals = Callable[[Array], tuple[Array, Array]]
"""Residuals ``(p,)`` at parameters ``(q,)``, and their derivatives ``(q, p)``."""

_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-3, 1e-7, 1e7
_CHUNKS = 8
"""Products are taken of so many parts, which BLAS takes on one thread each."""


def minimize(residuals: Residuals, start: Array, steps: int, tolerance: float = 1e-9) -> Array:
    """Return the parameters ``(q,)`` of the least sum of squares near a start.

    Ends when a step promises to lower the sum by less than `tolerance` of it, or after `steps`.
    Faster than SciPy's general solvers where q is small and p is thousands: no decomposition of
    the derivatives.
    """
    q, (off, slopes) = start, residuals(start)
    cost, damping = float(off @ off), _FIRST_DAMPING
    scale = np.zeros(len(start))
    for _ in range(steps):
        matrix, pull = _normal(slopes, off)
        own = np.diagonal(matrix)
        # Scales never shrink, so that what hardly matters now makes no huge step (Moré 1978).
        scale = np.maximum(scale, own)
        damped = matrix + np.diag(damping * scale + 1e-12 * own.max() + 1e-300)
        step = -np.linalg.solve(damped, pull)
        promise = -float(step @ (2 * pull + matrix @ step))
        if promise <= tolerance * cost and damping <= _FIRST_DAMPING:
            break
        trial_off, trial_slopes = residuals(q + step)
        fall = cost - float(trial_off @ trial_off)
        if fall > 0:
            q, off, slopes, cost = q + step, trial_off, trial_slopes, cost - fall
            damping = max(0.1 * damping, _LEAST_DAMPING)
        else:
            damping *= 10
        if damping > _MOST_DAMPING:
            break
    return q


def _normal(slopes: Array, off: Array) -> tuple[Array, Array]:
    """Return SᵀS and Sᵀr, of derivatives ``(q, p)`` and residuals ``(p,)``."""
    rows = np.concatenate([slopes, off[None]])
    size = -(-rows.shape[1] // _CHUNKS)
    padded = np.zeros((len(rows), _CHUNKS * size))
    padded[:, : rows.shape[1]] = rows
    parts = padded.reshape(len(rows), _CHUNKS, size).transpose(1, 0, 2)
    products = (parts @ parts.transpose(0, 2, 1)).sum(0)
    return products[:-1, :-1], products[:-1, -1]
