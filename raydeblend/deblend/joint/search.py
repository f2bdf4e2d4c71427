"""How many sources: peaks of the residual and halves of sources, kept if they gain enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.blend_fit import BlendFit, FitRequest, better_of, refit
from raydeblend.deblend.joint.candidates import find_candidates
from raydeblend.deblend.joint.evidence import (
    are_one,
    least_gain,
    least_gain_in_the_dark,
    least_gains,
)
from raydeblend.deblend.joint.fitting import fit_requests, render
from raydeblend.deblend.joint.prune import within_limit
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.splits import split_offsets, split_scores, split_source
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.deblend.peaks import peaks_of, stamp_peaks
from raydeblend.fit.parameters import POSITION
from raydeblend.tile import FloatArray

Array = NDArray[np.float64]


def first_peaks(stamp: Stamp) -> Array:
    """Return the positions ``(k, 2)`` of the peaks of a stamp, brightest first."""
    if stamp.significance is None:
        return stamp_peaks(stamp.image, stamp.weight, stamp.width)
    return peaks_of(stamp.significance, stamp.width)


def add_sources(
    stamps: Sequence[Stamp], fits: Sequence[BlendFit], settings: FitSettings
) -> tuple[list[BlendFit], set[int]]:
    """Try the residual's peaks as more sources, and long sources as two, while that gains.

    The best trial is kept if it gains enough, and the blend is searched again.  The search ends at
    twice as many sources as peaks, plus `extra_sources`: the residual of a bright galaxy could be
    fitted with ever more.

    Returns
    -------
    The fits, and the blends that need more sources than are fitted at once (`crowds` continues).
    """
    best, config = list(fits), settings.config.search
    crowds: set[int] = set()
    most = [2 * len(fit.theta) + config.extra_sources for fit in fits]
    going: Sequence[int] = range(len(best))
    for _ in range(config.rounds):
        going = [i for i in going if len(best[i].theta) < most[i]]
        going = within_limit(best, going, settings.limit)
        models = {i: render(stamps[i], best[i], settings.device) for i in going}
        found = find_candidates([stamps[i] for i in going], list(models.values()), settings)
        trials: list[tuple[int, FitRequest]] = []
        for i, candidates in zip(going, found, strict=True):
            own = list(_trials(stamps[i], best[i], models[i], candidates, most[i], settings))
            if any(len(r.start) > settings.config.blocks.max_joint_sources for r in own):
                crowds.add(i)
            else:
                trials += [(i, trial) for trial in own]
        going = _keep_best(best, trials, settings)
        if not going:
            break
    return best, crowds


def _keep_best(
    best: list[BlendFit], trials: Sequence[tuple[int, FitRequest]], settings: FitSettings
) -> list[int]:
    """Replace the fit of each blend by its best trial, if better; return which blends gained."""
    gains: dict[int, float] = {}
    tried = fit_requests([request for _, request in trials], settings)
    for (i, request), fit in zip(trials, tried, strict=True):
        gain = _gain(request, fit, settings)
        best[i] = better_of(best[i], fit, gain > gains.get(i, 0.0))
        gains[i] = max(gain, gains.get(i, 0.0))
    return sorted(i for i, gain in gains.items() if gain > 0)


def _gain(request: FitRequest, fit: BlendFit, settings: FitSettings) -> float:
    """Return how far a trial's gain exceeds the required one.

    Of two halves the fainter one counts as the new source.
    """
    stamp, config = request.stamp, settings.config.search
    if fit.limited or are_one(stamp, fit, settings.config.prune):
        return -np.inf
    gain = request.goal - fit.objective
    if gain <= 0 or request.compact[-1]:
        return gain
    fainter = len(fit.theta) - 2 + np.argsort(fit.total[:, -2:].sum(0))[0]
    others = render(stamp, fit.without(fainter), settings.device)
    least = least_gain(stamp, others, fit.xy[fainter], config)
    return gain - (least - least_gain_in_the_dark(stamp, config))


def _trials(
    stamp: Stamp,
    fit: BlendFit,
    models: FloatArray,
    candidates: Array,
    most: int,
    settings: FitSettings,
) -> Iterator[FitRequest]:
    """Yield fits with more sources to try, at most `most` of them."""
    config = settings.config.search
    added = candidates[: most - len(fit.theta)]
    if len(added):
        base = fit.add(added, compact=True)
        least = least_gains(stamp, models, added[:, POSITION], config).sum()
        yield refit(stamp, base, fit.objective - float(least))
    goal = fit.objective - least_gain_in_the_dark(stamp, config)
    for base in _splits(stamp, fit, models, settings):
        yield refit(stamp, base, goal)


def _splits(
    stamp: Stamp, fit: BlendFit, models: FloatArray, settings: FitSettings
) -> Iterator[BlendFit]:
    """Yield the fit with one source split in two, for the most promising sources."""
    config, search = settings.config.splits, settings.config.search
    offsets = split_offsets(stamp, fit, config)
    scores = split_scores(stamp, fit, offsets, settings)
    order = np.argsort(-scores, kind="stable")[: config.max_splits]
    for source in order[scores[order] > 0]:
        ends = np.stack([fit.xy[source] + offsets[source], fit.xy[source] - offsets[source]])
        least = least_gains(stamp, models, ends, search).min()
        if scores[source] > config.min_score_fraction * least:
            yield split_source(fit, source, offsets[source], config)
