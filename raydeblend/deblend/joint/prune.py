"""Which sources of a blend go: those that the pixels hardly miss."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.blend_fit import BlendFit, FitRequest, better_of, refit
from raydeblend.deblend.joint.config import JointConfig
from raydeblend.deblend.joint.evidence import are_one, separations
from raydeblend.deblend.joint.fitting import fit_requests
from raydeblend.deblend.joint.settings import FitSettings, Limit
from raydeblend.deblend.joint.stamp import Stamp


def drop_sources(
    stamps: Sequence[Stamp], fits: Sequence[BlendFit], settings: FitSettings
) -> list[BlendFit]:
    """Take out the least significant source of each blend while the fit hardly gets worse.

    Of two that are one galaxy the less significant goes in any case.
    """
    best, config = list(fits), settings.config
    going: Sequence[int] = range(len(best))
    while going:
        doubtful = [i for i in going if _is_doubtful(stamps[i], best[i], config)]
        chosen = within_limit(best, doubtful, settings.limit)
        requests = {i: _without_weakest(stamps[i], best[i], config) for i in chosen}
        tried = fit_requests(list(requests.values()), settings)
        going = []
        for i, fit in zip(requests, tried, strict=True):
            better = not fit.limited and fit.objective < requests[i].goal
            best[i] = better_of(best[i], fit, better)
            going += [i] * better
    return best


def within_limit(fits: list[BlendFit], going: Sequence[int], limit: Limit) -> list[int]:
    """Return which blends have not reached the limit, and mark the others, in place."""
    for i in going:
        if fits[i].limited or limit.reached(fits[i].work):
            fits[i] = replace(fits[i], limited=True)
    return [i for i in going if not fits[i].limited]


def _is_doubtful(stamp: Stamp, fit: BlendFit, config: JointConfig) -> bool:
    """Tell whether the weakest source may be none.  The last one stays: it was detected."""
    if len(fit.theta) < 2:
        return False
    return bool(fit.snr.min() <= config.prune.max_doubtful_snr) or are_one(stamp, fit, config.prune)


def _without_weakest(stamp: Stamp, fit: BlendFit, config: JointConfig) -> FitRequest:
    """Return the fit without its weakest source, or the weaker one of the closest pair."""
    among, goal = np.arange(len(fit.theta)), fit.objective + config.search.min_gain
    if are_one(stamp, fit, config.prune):
        among, goal = _closest_pair(fit), sys.float_info.max
    weakest = among[np.argmin(fit.snr[among])]
    return refit(stamp, fit.without(weakest), goal)


def _closest_pair(fit: BlendFit) -> NDArray[np.intp]:
    first, second = np.triu_indices(len(fit.theta), 1)
    closest = int(np.argmin(separations(fit.xy)))
    return np.array([first[closest], second[closest]])
