"""Which found position belongs to which true one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

RADIUS = 5.0
"""Pixels within which a model may be matched to a truth."""


def match_positions(
    found: NDArray[np.floating], truth: NDArray[np.floating], radius: float = RADIUS
) -> NDArray[np.int64]:
    """Match found to true positions one to one (Hungarian, gated before the assignment).

    As many pairs within `radius` as possible, then the least total distance.

    Parameters
    ----------
    found, truth
        ``(k, 2)`` and ``(m, 2)`` positions in pixels; a NaN position is never matched.

    Returns
    -------
    ``(m,)``: the index in `found` of each truth, or -1.
    """
    match = np.full(len(truth), -1, dtype=np.int64)
    distance = np.linalg.norm(truth[:, None] - found[None], axis=-1)
    allowed = distance <= radius
    # One forbidden pair costs more than all allowed pairs together.
    forbidden = radius * (1 + min(distance.shape)) + 1
    rows, columns = linear_sum_assignment(np.where(allowed, distance, forbidden))
    keep = allowed[rows, columns]
    match[rows[keep]] = columns[keep]
    return match


def match_sky(
    true: NDArray[np.floating],
    flux: NDArray[np.floating],
    found: NDArray[np.floating],
    radius: float,
) -> NDArray[np.int64]:
    """Return for each true position the nearest free one of `found`, or -1; brightest first.

    Parameters
    ----------
    true, found
        ``(m, 2)`` and ``(n, 2)``, in the unit of `radius`.
    flux
        ``(m,)`` of the true sources.
    """
    match = np.full(len(true), -1, dtype=np.int64)
    if not len(true) or not len(found):
        return match
    taken = np.zeros(len(found), dtype=bool)
    neighbors = cKDTree(found).query_ball_point(true, radius)
    for i in np.argsort(-flux, kind="stable"):
        free = [j for j in neighbors[i] if not taken[j]]
        if free:
            match[i] = min(free, key=lambda j: float(np.sum((found[j] - true[i]) ** 2)))
            taken[match[i]] = True
    return match
