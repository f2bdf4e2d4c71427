"""Which found position belongs to which true one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

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
