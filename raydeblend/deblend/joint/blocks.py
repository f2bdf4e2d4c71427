"""Blocks of near sources, by which a blend of many is fitted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]


def blocks(
    xy: Array, most: int, changed: NDArray[np.intp] | None = None
) -> Iterator[NDArray[np.intp]]:
    """Yield the indices of up to `most` near sources, until all (changed) ones had a turn."""
    left = np.arange(len(xy))
    due = left if changed is None else changed
    while len(due):
        # A changed source sees all its neighbors; else every source has one block.
        among = left if changed is None else np.arange(len(xy))
        near = np.argsort(cdist(xy[due[:1]], xy[among])[0], kind="stable")[:most]
        block = among[near]
        yield block
        left = np.setdiff1d(left, block)
        due = np.setdiff1d(due, block)
