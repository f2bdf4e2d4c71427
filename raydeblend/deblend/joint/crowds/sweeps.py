"""All sources of a crowd fitted, block after block of near ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from raydeblend.deblend.joint.blocks import blocks
from raydeblend.deblend.joint.config import BlockConfig
from raydeblend.deblend.joint.crowds.crowd import UNREACHED, Crowd

Array = NDArray[np.float64]


def fit_peaks(crowd: Crowd, xy: Array) -> None:
    """Fit a source at each of the positions ``(k, 2)``, the brightest first.

    How far a source reaches is not known yet: it is fitted on the samples that are nearest to it.
    """
    most, image = crowd.config.max_joint_sources, crowd.stamp.image.sum(0)
    y, x = (
        np.clip(np.floor(v + 0.5), 0, n - 1) for v, n in zip(xy.T[::-1], image.shape, strict=True)
    )
    xy = xy[np.argsort(-image[y.astype(int), x.astype(int)], kind="stable")]
    nearest = cKDTree(xy).query(crowd.stamp.centers.T)[1]
    order = np.argsort(nearest, kind="stable")
    bounds = np.searchsorted(nearest[order], np.arange(len(xy) + 1))
    nobody = np.zeros(0, dtype=np.intp)
    for block in blocks(xy, most):
        own = [order[bounds[source] : bounds[source + 1]] for source in block.tolist()]
        core = crowd.samples_of(nobody, xy[block])
        crowd.fit_first(np.unique(np.concatenate([*own, core])), xy[block])
        if crowd.at_limit():
            return


def settle(
    crowd: Crowd, config: BlockConfig, changed: NDArray[np.intp] | None = None
) -> NDArray[np.intp]:
    """Fit all sources, or those that changed, with those near them until little falls any more.

    After the first sweep only where the last one gained are sources fitted again.  Returns those
    that were to be fitted again when the sweeps ended.
    """
    for number in range(config.sweeps):
        changed = _sweep(crowd, config, changed, number < config.hasty_sweeps)
        if crowd.limited or not len(changed):
            break
    return crowd.numbers if changed is None else changed


def _sweep(
    crowd: Crowd, config: BlockConfig, changed: NDArray[np.intp] | None, hasty: bool
) -> NDArray[np.intp]:
    """Fit each source, or each that changed, once more; return those of blocks that gained.

    Hastily, only a few steps, since the neighbors move too; what has not converged then is
    returned as well.
    """
    numbers = crowd.numbers
    xy = crowd.positions(numbers)
    due = None if changed is None else np.flatnonzero(np.isin(numbers, changed))
    gained: list[int] = []
    for block in blocks(xy, config.max_joint_sources, due):
        group = numbers[block]
        must_gain = UNREACHED if hasty else -np.inf
        trial = crowd.try_fit(group, crowd.fits(group), crowd.starts(group), must_gain)
        crowd.accept(trial)
        if trial.gain > config.settled or (hasty and not trial.fit.converged):
            gained += group.tolist()
        if crowd.at_limit():
            break
    return np.array(sorted(set(gained)), dtype=np.intp)
