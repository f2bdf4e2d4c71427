"""How many sources: peaks of the residual and halves of sources, kept if they gain enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

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

    A blend is looked at again after each gain, until it has twice as many sources as it had peaks,
    and `extra_sources`: what is left of a bright galaxy could be fitted with ever more.

    Returns
    -------
    The fits, and which blends want more sources than are fitted at once (`crowds` goes on).
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
        trials = {
            i: _trials(stamps[i], best[i], models[i], candidates, most[i], settings)
            for i, candidates in zip(going, found, strict=True)
        }
        gained, grown = _keep_best(best, trials, settings)
        crowds |= grown
        going = sorted(gained - grown)
        if not going:
            break
    return best, crowds


def _keep_best(
    best: list[BlendFit], trials: dict[int, Iterator[FitRequest]], settings: FitSettings
) -> tuple[set[int], set[int]]:
    """Put the best trial of each blend in the place of its fit.

    They are made one after the other, and each is given up as soon as it will hardly gain more than
    the best before it: most find the same source, some from a start that leads nowhere.  Returns
    which blends gained, and which want more sources than are fitted at once.
    """
    gains: dict[int, float] = {}
    crowds: set[int] = set()
    largest = settings.config.blocks.max_joint_sources
    while trials:
        requests = {i: request for i, own in trials.items() if (request := next(own, None))}
        crowds |= {i for i, request in requests.items() if len(request.start) > largest}
        requests = {i: request for i, request in requests.items() if i not in crowds}
        harder = [replace(own, goal=own.goal - gains.get(i, 0.0)) for i, own in requests.items()]
        tried = fit_requests(harder, settings)
        for (i, request), fit in zip(requests.items(), tried, strict=True):
            gain = _gain(request, fit, settings)
            better = gain > gains.get(i, 0.0)
            best[i] = better_of(best[i], fit, better)
            if better:
                gains[i] = gain
        trials = {i: trials[i] for i in requests}
    return set(gains), crowds


def _gain(request: FitRequest, fit: BlendFit, settings: FitSettings) -> float:
    """Return what a trial gains beyond what it must; of two halves the fainter one is the new."""
    stamp, config = request.stamp, settings.config.search
    if fit.limited or are_one(stamp, fit, settings.config.prune):
        return -np.inf
    gain = request.goal - fit.objective
    if gain <= 0 or request.compact[-1]:
        return gain
    fainter = len(fit.theta) - 2 + np.argsort(fit.total[:, -2:].sum(0))[0]
    # All are drawn, since the next look asks for them if this trial is kept.
    others = np.delete(render(stamp, fit, settings.device), fainter, axis=0)
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
    """Yield fits with more sources to try, at most `most` of them, the most promising first."""
    config = settings.config.search
    added = candidates[: most - len(fit.theta)]
    if len(added):
        base = fit.add(added, compact=True)
        changed = np.arange(len(fit.theta), len(base.theta))
        least = least_gains(stamp, models, added[:, POSITION], config).sum()
        yield refit(stamp, base, changed, fit.objective - float(least))
    goal = fit.objective - least_gain_in_the_dark(stamp, config)
    for base in _splits(stamp, fit, models, settings):
        yield refit(stamp, base, np.arange(len(base.theta) - 2, len(base.theta)), goal)


def _splits(
    stamp: Stamp, fit: BlendFit, models: FloatArray, settings: FitSettings
) -> Iterator[BlendFit]:
    """Yield the fit with one source cut in two, the ones that promise most."""
    config, search = settings.config.splits, settings.config.search
    offsets = split_offsets(stamp, fit, config)
    scores = split_scores(stamp, fit, offsets, settings)
    order = np.argsort(-scores, kind="stable")[: config.max_splits]
    # What is too little even in the dark needs no look at the light that is there.
    least = config.min_score_fraction * least_gain_in_the_dark(stamp, search)
    for source in order[scores[order] > least]:
        ends = np.stack([fit.xy[source] + offsets[source], fit.xy[source] - offsets[source]])
        least = least_gains(stamp, models, ends, search).min()
        if scores[source] > config.min_score_fraction * least:
            yield split_source(fit, source, offsets[source], config)
