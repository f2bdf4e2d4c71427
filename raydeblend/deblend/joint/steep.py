"""Galaxies whose bulge has much of their light, tried as one steep profile.

A fit begins near an exponential disk.  Where a galaxy is steeper than that its bulge takes the
light, and the disk is left in another minimum than the one in which it is that steep itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from raydeblend.deblend.joint.blend_fit import BlendFit, FitRequest, better_of, refit
from raydeblend.deblend.joint.config import SteepConfig
from raydeblend.deblend.joint.fitting import fit_requests
from raydeblend.deblend.joint.prune import within_limit
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.parameters import (
    BULGE,
    BULGE_LOG_RADIUS,
    BULGE_SHEAR,
    LOG_INDEX,
    LOG_RADIUS,
    SHEAR,
)
from raydeblend.fit.sersic import BULGE_INDEX
from raydeblend.tile import BoolArray


def try_steep(
    stamps: Sequence[Stamp], fits: Sequence[BlendFit], settings: FitSettings
) -> list[BlendFit]:
    """Fit the blends with large bulges once more from disks like these; return the better fits."""
    best = list(fits)
    bulges = {i: has_large_bulge(fit, settings.config.steep) for i, fit in enumerate(best)}
    chosen = within_limit(best, [i for i in bulges if bulges[i].any()], settings.limit)
    requests = [_from_steep(stamps[i], best[i], bulges[i], settings) for i in chosen]
    for i, fit in zip(chosen, fit_requests(requests, settings), strict=True):
        best[i] = better_of(best[i], fit, fit.objective < best[i].objective)
    return best


def has_large_bulge(fit: BlendFit, config: SteepConfig) -> BoolArray:
    """Tell which sources ``(k,)`` have much of their light in the bulge, and are bright."""
    light = fit.flux.sum(0)
    large = light[:, BULGE] > config.min_bulge_fraction * light.sum(1)
    return np.asarray(large & (fit.snr > config.min_snr))


def _from_steep(stamp: Stamp, fit: BlendFit, steep: BoolArray, settings: FitSettings) -> FitRequest:
    """Return the request of a fit in which disks begin as the bulges of some sources are."""
    theta = fit.theta.copy()
    theta[steep, SHEAR] = fit.theta[steep, BULGE_SHEAR]
    theta[steep, LOG_RADIUS] = fit.theta[steep, BULGE_LOG_RADIUS]
    theta[steep, BULGE_LOG_RADIUS] += settings.priors.log_ratio
    theta[steep, LOG_INDEX] = np.log(BULGE_INDEX)
    return refit(stamp, replace(fit, theta=theta))
