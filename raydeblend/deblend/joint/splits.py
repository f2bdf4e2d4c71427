"""Which sources of a fit may be two: those whose neighbourhood wants one more, to first order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from raydeblend.deblend.joint import one_blend
from raydeblend.deblend.joint.scenes import TOGETHER, Fit, around, blocks, make_scene, refit
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.priors import BulgeDiskPriors
from raydeblend.fit.score_test import score_gains
from raydeblend.tile import BoolArray, FloatArray

Array = NDArray[np.float64]

REACH = 2.0
"""PSF widths about a source within which another is asked for,"""
STEP = 0.6
"""and how far apart, in the same unit."""
BROADER = 1.2
"""Width of a small galaxy over that of the PSF."""
# Of a flux in sigma: a band without usable pixels has next to no light.
_LEAST = 1e-6


def gains_of_doubles(
    stamp: Stamp,
    fit: Fit,
    models: FloatArray,
    arms: Array,
    priors: BulgeDiskPriors,
    device: torch.device,
) -> Array:
    """Return per source ``(k,)`` what ln L would gain, to first order, by another one at its side.

    Parameters
    ----------
    models
        ``(k, bands, y, x)`` of the fit.
    arms
        ``(k, 2)`` where on both sides of each another one is asked for too, (x, y) from its
        centre; a source with (0, 0) is not asked, and gets 0.
    """
    gains = np.zeros(len(fit.theta))
    asked: BoolArray = np.asarray(arms.any(1))
    if not asked.any():
        return gains
    if len(gains) <= TOGETHER:
        return _gains(stamp, fit, arms, priors, device)
    xy, whole = fit.theta[:, :2], models.sum(0)
    for block in blocks(xy):
        if asked[block].any():
            others = whole - models[block].sum(0)
            part = around(replace(stamp, image=stamp.image - others), models, xy, block)
            gains[block] = _gains(part, fit.take(block), arms[block], priors, device)
    return gains


def _gains(
    stamp: Stamp, fit: Fit, arms: Array, priors: BulgeDiskPriors, device: torch.device
) -> Array:
    places, owner = _places(fit.theta[:, :2], arms, stamp.width)
    task = refit(stamp, fit, np.unique(owner))
    scale = np.fmax(fit.total, fit.flux_err).clip(_LEAST)
    width = BROADER * stamp.width
    if device.type == "cpu":
        known = None if task.base is None else task.base.theta
        blend = one_blend.make_blend(stamp, task.start, task.compact, task.bulge, priors, known)
        found = one_blend.score_gains(blend, fit.theta, scale, places, width)
    else:
        scene = make_scene([task], priors, device)
        theta, scales, xy = (
            torch.from_numpy(each[None]).to(device) for each in (fit.theta, scale, places)
        )
        found = score_gains(scene, theta, scales, xy, width)[0].cpu().numpy()
    gains = np.zeros(len(fit.theta))
    np.maximum.at(gains, owner, found)
    return gains


def _places(xy: Array, arms: Array, width: float) -> tuple[Array, NDArray[np.intp]]:
    """Return positions ``(m, 2)`` near the sources and at their arms, and whose ``(m,)``."""
    steps = np.arange(-REACH, REACH + STEP / 2, STEP) * width
    offsets = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    distance = np.hypot(*offsets.T)
    offsets = offsets[(distance <= REACH * width) & (distance > STEP * width / 2)]
    sources = np.flatnonzero(arms.any(1))
    near = (xy[sources, None] + offsets).reshape(-1, 2)
    owner = np.repeat(sources, len(offsets))
    own = cdist(near, xy).argmin(1) == owner
    ends = [xy[sources] + arms[sources], xy[sources] - arms[sources]]
    return np.concatenate([near[own], *ends]), np.concatenate([owner[own], sources, sources])
