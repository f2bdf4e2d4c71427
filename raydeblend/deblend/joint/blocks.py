"""Blocks of near sources, by which a blend of many is fitted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from raydeblend.deblend.joint.config import BlockConfig
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.tile import FloatArray

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


def around(
    stamp: Stamp, models: FloatArray, xy: Array, block: NDArray[np.intp], config: BlockConfig
) -> Stamp:
    """Return the stamp less the other sources, with the samples that matter for a block.

    Parameters
    ----------
    models, xy
        ``(k, bands, y, x)`` and ``(k, 2)`` of all sources.
    """
    others = models.sum(0) - models[block].sum(0)
    xy_samples = stamp.centers.T
    light = stamp.means(models[block].sum(0)).max(0)
    near = cdist(xy_samples, xy[block]).min(1) < config.core_radius * stamp.width
    chosen = near | (light > config.min_light)
    if not models.any():
        # Nothing is known yet of how far the sources reach.
        chosen |= np.isin(cdist(xy_samples, xy).argmin(1), block)
    return replace(stamp, image=stamp.image - others).keep(chosen)
