"""Which sources of a fit may be two, and their halves.

Asked are those that are long; promising are those whose neighborhood wants one more source, to
first order.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from raydeblend.deblend.joint import compiled
from raydeblend.deblend.joint.batching import make_scene
from raydeblend.deblend.joint.blend_fit import BlendFit, FitRequest, refit
from raydeblend.deblend.joint.config import SplitConfig
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.parameters import LOG_RADII, LOG_RADIUS, POSITION, SHEAR, SHEARS
from raydeblend.fit.profiles import EXPONENTIAL_VARIANCE
from raydeblend.fit.score_test import score_gains

Array = NDArray[np.float64]

# Of a flux in sigma: a band without usable pixels has next to no light.
_LEAST = 1e-6


def split_offsets(stamp: Stamp, fit: BlendFit, config: SplitConfig) -> Array:
    """Return how far ``(k, 2)`` (x, y) from its center the halves of each source are.

    On its major axis; 0 for those that are not long or significant enough.  Halves at ±s on the
    major axis, each as wide as the whole is across, have the second moments of the whole if s² is
    the difference of its variances along the two axes.
    """
    g1, g2 = fit.theta[:, SHEAR].T
    angle, shear = 0.5 * np.arctan2(g2, g1), np.hypot(g1, g2)
    variance = EXPONENTIAL_VARIANCE * np.exp(2 * fit.theta[:, LOG_RADIUS]) / stamp.pixel_scale**2
    half = np.sqrt(variance * 4 * shear / (1 - shear**2))
    asked = (fit.snr > config.min_snr) & (half >= config.min_offset)
    half = np.where(asked, np.minimum(half, config.max_offset), 0.0)
    return np.asarray(half[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1))


def split_source(fit: BlendFit, source: np.intp, offset: Array, config: SplitConfig) -> BlendFit:
    """Return the fit with one source cut in two at ± `offset`, the last ones."""
    shear = np.hypot(*fit.theta[source, SHEAR])
    halves = np.stack([fit.theta[source]] * 2)
    halves[0, POSITION] += offset
    halves[1, POSITION] -= offset
    halves[:, SHEARS] = 0
    halves[:, LOG_RADII] += np.log(max((1 - shear) / (1 + shear), config.min_axis_ratio))
    return fit.without(source).add(halves, compact=False)


def split_scores(stamp: Stamp, fit: BlendFit, offsets: Array, settings: FitSettings) -> Array:
    """Return per source ``(k,)`` what ln L would gain, to first order, by another one at its side.

    Parameters
    ----------
    offsets
        ``(k, 2)`` where on both sides of each another one is asked for too, (x, y) from its
        center; a source with (0, 0) is not asked, and gets 0.
    """
    config, scores = settings.config.splits, np.zeros(len(fit.theta))
    if not offsets.any():
        return scores
    places, owner = _places(fit.xy, offsets, stamp.width, config)
    request = refit(stamp, fit)
    found = _score_places(request, fit, places, config.width * stamp.width, settings)
    np.maximum.at(scores, owner, found)
    return scores


def _score_places(
    request: FitRequest, fit: BlendFit, places: Array, width: float, settings: FitSettings
) -> Array:
    scale = np.fmax(fit.total, fit.flux_err).clip(_LEAST)
    if settings.compiled:
        return compiled.score_gains(request, settings.priors, fit.theta, scale, places, width)
    scene = make_scene([request], settings.priors, settings.device)
    theta, scales, xy = (
        torch.from_numpy(each[None]).to(settings.device) for each in (fit.theta, scale, places)
    )
    return np.asarray(score_gains(scene, theta, scales, xy, width)[0].cpu().numpy())


def _places(
    xy: Array, offsets: Array, width: float, config: SplitConfig
) -> tuple[Array, NDArray[np.intp]]:
    """Return positions ``(m, 2)`` near the sources and at their ends, and whose ``(m,)``."""
    reach, step = config.reach, config.step
    steps = np.arange(-reach, reach + step / 2, step) * width
    grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    distance = np.hypot(*grid.T)
    grid = grid[(distance <= reach * width) & (distance > step * width / 2)]
    sources = np.flatnonzero(offsets.any(1))
    near = (xy[sources, None] + grid).reshape(-1, 2)
    owner = np.repeat(sources, len(grid))
    own = cdist(near, xy).argmin(1) == owner
    ends = [xy[sources] + offsets[sources], xy[sources] - offsets[sources]]
    return np.concatenate([near[own], *ends]), np.concatenate([owner[own], sources, sources])
