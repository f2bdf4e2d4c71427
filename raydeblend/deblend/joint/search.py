"""How many sources: candidates from the residual, kept or dropped by what they gain."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from raydeblend.deblend.joint.scenes import (
    NO_LIMIT,
    TOGETHER,
    Fit,
    Limit,
    Task,
    better_of,
    draw,
    fit_tasks,
    refit,
)
from raydeblend.deblend.joint.splits import gains_of_doubles
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.deblend.peaks import stamp_peaks
from raydeblend.detect.footprints import matched_filters
from raydeblend.detect.peaks import find_peaks, refine_peaks
from raydeblend.fit.bulge_disk import COMPONENTS, PARAMETERS
from raydeblend.fit.priors import JointPriors
from raydeblend.tile import FloatArray

Array = NDArray[np.float64]

ROUNDS = 4
"""How often the residual is looked at again."""
MOST_MORE = 2
"""Sources beyond twice the peaks."""
CANDIDATE = 3.5
"""Significance in the residual from which a source is tried."""
NEAR = 5.0
"""PSF widths about a candidate within which it is fitted alone."""
SPLITS = 2
"""Sources that are tried as two in one look, those that want it most:"""
HINT = 0.25
"""part of the least gain, over the light at the end of an arm, that another source at their side
must promise, to first order."""
MIN_SPLIT = 1.0
"""Least half-length in pixels of a source that is tried as two."""
MAX_SPLIT = 6.0
"""Most of it that is used."""
MIN_SPLIT_SNR = 8.0
"""Its least significance: two halves must each be a source."""
MODEL_ERROR = 0.03
"""Part of a model's light that may be wrong without another source: arms, bars, clumps."""
SMOOTH_ERROR = 0.005
"""The same for the sum over a PSF, from the mixtures that stand for profiles and PSF."""
MIN_GAIN = 14.0
"""What a source is worth in ln posterior: one that is there stays for it, and in up to three bands
one more must gain it; in more bands as many as a source has parameters, since noise alone gains
half of that (Akaike 1974)."""
ADDED_ERROR = 0.02
"""Part of the light under a new source that may be wrong: what it must gain beside MIN_GAIN is
half the significance squared of so much of it within UNDER."""
UNDER = 1.5
"""PSF widths about a source in which light is under it."""
HALF_WAY = 0.3
"""Part of the least gain that a source alone on the residual must have to be tried."""
DOUBTFUL = 10.0
"""Flux over error, all bands together, below which it is tried without a source."""
CLOSEST = 0.5
"""PSF widths within which two sources are one galaxy of another profile than the model's."""


def first_peaks(stamp: Stamp) -> Array:
    """Return the positions ``(k, 2)`` of the peaks of a stamp, brightest first."""
    return stamp_peaks(stamp.image, stamp.weight, stamp.width)


def add_sources(
    stamps: Sequence[Stamp],
    fits: Sequence[Fit],
    priors: JointPriors,
    device: torch.device,
    limit: Limit = NO_LIMIT,
) -> list[Fit]:
    """Try the residual's peaks as more sources, and the longest source as two, while that gains.

    The better of both trials is kept if it gains enough, and the blend is looked at again, until
    it has twice as many sources as it had peaks, and MOST_MORE: what is left of a bright galaxy
    could be fitted with ever more.
    """
    best = list(fits)
    most = [2 * len(fit.theta) + MOST_MORE for fit in fits]
    going: Sequence[int] = range(len(best))
    setting = priors, device
    for _ in range(ROUNDS):
        going = _may_go_on(best, [i for i in going if len(best[i].theta) < most[i]], limit)
        models = {i: draw(stamps[i], best[i], device) for i in going}
        found = _significant([stamps[i] for i in going], list(models.values()), priors, device)
        trials = [
            (i, trial)
            for i, candidates in zip(going, found, strict=True)
            for trial in _trials(stamps[i], best[i], models[i], candidates, most[i], setting)
        ]
        tried = fit_tasks([task for _, task in trials], priors, device, limit)
        gains: dict[int, float] = {}
        for (i, task), fit in zip(trials, tried, strict=True):
            gain = _gain(task, fit, device)
            best[i] = better_of(best[i], fit, gain > gains.get(i, 0.0))
            gains[i] = max(gain, gains.get(i, 0.0))
        going = sorted(i for i, gain in gains.items() if gain > 0)
        if not going:
            break
    return best


def _may_go_on(fits: list[Fit], going: Sequence[int], limit: Limit) -> list[int]:
    """Return which blends have not reached the limit, and mark the others, in place."""
    for i in going:
        if fits[i].limited or limit.reached(fits[i].work):
            fits[i] = replace(fits[i], limited=True)
    return [i for i in going if not fits[i].limited]


def drop_sources(
    stamps: Sequence[Stamp],
    fits: Sequence[Fit],
    priors: JointPriors,
    device: torch.device,
    limit: Limit = NO_LIMIT,
) -> list[Fit]:
    """Take out the least significant source of each blend while the fit hardly gets worse.

    Of two that are one galaxy the less significant goes in any case.
    """
    best = list(fits)
    going: Sequence[int] = range(len(best))
    while going:
        doubtful = [i for i in going if _doubtful(stamps[i], best[i])]
        tasks = {i: _without_weakest(stamps[i], best[i]) for i in _may_go_on(best, doubtful, limit)}
        tried = fit_tasks(list(tasks.values()), priors, device, limit)
        going = []
        for i, fit in zip(tasks, tried, strict=True):
            better = not fit.limited and fit.objective < tasks[i].goal
            best[i] = better_of(best[i], fit, better)
            going += [i] * better
    return best


def are_one(stamp: Stamp, fit: Fit) -> bool:
    """Tell whether two sources of a fit are too close to be two galaxies."""
    return bool((pdist(fit.theta[:, :2]) < CLOSEST * stamp.width).any())


def _doubtful(stamp: Stamp, fit: Fit) -> bool:
    """Tell whether the weakest source may be none.  The last one stays: it was detected."""
    return len(fit.theta) > 1 and (bool(fit.snr.min() <= DOUBTFUL) or are_one(stamp, fit))


def _without_weakest(stamp: Stamp, fit: Fit) -> Task:
    """Return the fit without its weakest source, or the weaker one of the closest pair."""
    among, goal = np.arange(len(fit.theta)), fit.objective + MIN_GAIN
    if are_one(stamp, fit):
        among, goal = _closest_pair(fit), sys.float_info.max
    weakest = among[np.argmin(fit.snr[among])]
    rest = fit.take(np.delete(np.arange(len(fit.theta)), weakest))
    distance = np.hypot(*(rest.theta[:, :2] - fit.theta[weakest, :2]).T)
    return refit(stamp, rest, np.argsort(distance)[:1], goal)


def _closest_pair(fit: Fit) -> NDArray[np.intp]:
    first, second = np.triu_indices(len(fit.theta), 1)
    closest = int(np.argmin(pdist(fit.theta[:, :2])))
    return np.array([first[closest], second[closest]])


def _gain(task: Task, fit: Fit, device: torch.device) -> float:
    """Return what a trial gains beyond what it must; of two halves the fainter one is the new."""
    if fit.limited or are_one(task.stamp, fit):
        return -np.inf
    gain = task.goal - fit.objective
    if gain <= 0 or task.compact[-1]:
        return gain
    last = len(fit.theta) - 2 + np.argsort(fit.total[:, -2:].sum(0))
    others = fit.take(np.delete(np.arange(len(fit.theta)), last[0]))
    least = _least_gain(task.stamp, draw(task.stamp, others, device), fit.theta[last[0], :2])
    return gain - (least - _chance(task.stamp))


def _trials(
    stamp: Stamp,
    fit: Fit,
    models: FloatArray,
    candidates: Array,
    most: int,
    setting: tuple[JointPriors, torch.device],
) -> Iterator[Task]:
    """Yield fits with more sources to try, at most `most` of them."""
    added = candidates[: most - len(fit.theta)]
    if len(added):
        base = fit.add(added, compact=True)
        changed = np.arange(len(fit.theta), len(base.theta))
        least = sum(_least_gain(stamp, models, theta[:2]) for theta in added)
        yield refit(stamp, base, changed, fit.objective - least)
    arms = _arms(stamp, fit)
    gains = gains_of_doubles(stamp, fit, models, arms, *setting)
    # In a crowd a trial is dear, and one of them is kept of each look.
    most_splits = SPLITS if len(gains) <= TOGETHER else 1
    order = np.argsort(-gains, kind="stable")[:most_splits]
    for source in order[gains[order] > 0]:
        ends = fit.theta[source, :2] + arms[source], fit.theta[source, :2] - arms[source]
        if gains[source] <= HINT * min(_least_gain(stamp, models, end) for end in ends):
            continue
        base = _split(fit, source, arms[source])
        changed = np.arange(len(base.theta) - 2, len(base.theta))
        yield refit(stamp, base, changed, fit.objective - _chance(stamp))


def _candidates(stamp: Stamp, models: FloatArray) -> Array:
    """Return the positions ``(m, 2)`` of significant peaks of the residual, well apart.

    The light of the models counts as noise too: in each pixel by the part of it that may be
    wrong there, and in the sum over the filter by what does not average out.
    """
    total = models.sum(0)
    weight = stamp.weight / (1 + stamp.weight * (MODEL_ERROR * total) ** 2)
    light, rest = matched_filters([total, stamp.image - total], weight, stamp.width)
    image = np.asarray(rest / np.sqrt(1 + (SMOOTH_ERROR * light) ** 2), dtype=np.float32)
    peaks = find_peaks(image, image > CANDIDATE, CANDIDATE, 0.0)
    return refine_peaks(image, peaks)


def _significant(
    stamps: Sequence[Stamp],
    models: Sequence[FloatArray],
    priors: JointPriors,
    device: torch.device,
) -> list[Array]:
    """Return of each stamp theta ``(m, 8)`` of the candidates that gain enough, best first.

    Each is fitted alone to the residual about its position.
    """
    tasks: list[Task] = []
    owner: list[int] = []
    for i, (stamp, light) in enumerate(zip(stamps, models, strict=True)):
        own = _alone(stamp, light)
        tasks += own
        owner += [i] * len(own)
    fits = fit_tasks(tasks, priors, device)
    empty = [0.5 * (t.stamp.chi2(t.stamp.image) + t.stamp.scatter) for t in tasks]
    gain = np.array(empty) - [fit.objective for fit in fits]
    theta = np.array([fit.theta[0] for fit in fits]).reshape(-1, 8)
    belongs = np.array(owner)
    least = np.array(
        [_least_gain(stamps[i], models[i], t[:2]) for i, t in zip(owner, theta, strict=True)]
    )
    parts = gain / np.maximum(least, MIN_GAIN)
    return [theta[belongs == i][_promising(parts[belongs == i])] for i in range(len(stamps))]


def _least_gain(stamp: Stamp, models: FloatArray, xy: Array) -> float:
    """Return what a new source at a position must gain, over the light of the others there."""
    under = stamp.keep(np.hypot(*(stamp.centres.T - xy).T) < UNDER * stamp.width)
    light = under.chi2(models.sum(0))
    return _chance(stamp) + 0.5 * ADDED_ERROR**2 * light


def _chance(stamp: Stamp) -> float:
    """Return the least gain of a source where there is no other light."""
    bands = int((stamp.weights > 0).any(1).sum())
    return max(MIN_GAIN, PARAMETERS + COMPONENTS * bands)


def _alone(stamp: Stamp, models: FloatArray) -> list[Task]:
    """Return fits of single sources to the residual at its peaks."""
    rest = replace(stamp, image=stamp.image - models.sum(0))
    parts = [(_near(rest, xy), xy) for xy in _candidates(stamp, models)]
    return [Task(part, xy[None], np.ones(1, dtype=bool)) for part, xy in parts if len(part.starts)]


def _promising(gain: Array) -> NDArray[np.intp]:
    """Return which gains, as parts of the least, are enough, the best first.

    Only the best of those that gain less is let through to the joint fit, in which others may
    make way for it.
    """
    order = np.argsort(-gain, kind="stable")
    chosen = order[gain[order] > 1]
    return chosen if len(chosen) else order[:1][gain[order[:1]] > HALF_WAY]


def _near(stamp: Stamp, xy: Array) -> Stamp:
    return stamp.keep(np.hypot(*(stamp.centres.T - xy).T) < NEAR * stamp.width)


def _arms(stamp: Stamp, fit: Fit) -> Array:
    """Return the halves ``(k, 2)`` of the major axes (x, y) of the sources that may be two.

    They are significant and long enough; the others have 0.  Halves at ±s on the major axis, each
    as wide as the whole is across, have the second moments of the whole if s² is the difference
    of its variances along the two axes.
    """
    g1, g2 = fit.theta[:, 2:4].T
    angle, shear = 0.5 * np.arctan2(g2, g1), np.hypot(g1, g2)
    # Variance along an axis of an exponential disk of half-light radius 1: 1.065.
    variance = 1.065 * np.exp(2 * fit.theta[:, 4]) / stamp.pixel_scale**2
    half = np.sqrt(variance * 4 * shear / (1 - shear**2))
    asked = (fit.snr > MIN_SPLIT_SNR) & (half >= MIN_SPLIT)
    half = np.where(asked, np.minimum(half, MAX_SPLIT), 0.0)
    return np.asarray(half[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1))


def _split(fit: Fit, source: np.intp, arm: Array) -> Fit:
    """Return the fit with one source cut in two, the last ones."""
    shear = np.hypot(*fit.theta[source, 2:4])
    halves = np.stack([fit.theta[source]] * 2)
    halves[0, :2] += arm
    halves[1, :2] -= arm
    halves[:, [2, 3, 6, 7]] = 0
    halves[:, 4:6] += np.log(max((1 - shear) / (1 + shear), 0.3))
    rest = np.delete(np.arange(len(fit.theta)), source)
    return fit.take(rest).add(halves, compact=False)
