"""How many sources: candidates from the residual, kept or dropped by what they gain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from raydeblend.deblend.scenes import Fit, Stamp, Task, draw, fit_tasks
from raydeblend.detect.footprints import DetectConfig, matched_filter, significant_peaks
from raydeblend.detect.peaks import find_peaks, refine_peaks
from raydeblend.measure.joint_priors import JointPriors
from raydeblend.tile import FloatArray

Array = NDArray[np.float64]

DETECT = DetectConfig()
ROUNDS = 4
"""How often the residual is looked at again."""
MOST_MORE = 2
"""Sources beyond twice the peaks."""
CANDIDATE = 3.5
"""Significance in the residual from which a source is tried."""
NEAR = 5.0
"""PSF widths about a candidate within which it is fitted alone."""
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
"""Least gain of ln posterior for one source more.  It has eight parameters of its own and a flux
for each band; noise alone gains half as much as it has parameters."""
DOUBTFUL = 10.0
"""Flux over error, all bands together, below which it is tried without a source."""


def first_peaks(stamp: Stamp) -> Array:
    """Return the positions ``(k, 2)`` of the peaks of a stamp, brightest first."""
    image = matched_filter(stamp.image, stamp.weight, stamp.width)
    return significant_peaks(image, stamp.width, DETECT)[1]


def add_sources(
    stamps: Sequence[Stamp], fits: Sequence[Fit], priors: JointPriors, device: torch.device
) -> list[Fit]:
    """Try the residual's peaks as more sources, and the longest source as two, while that gains.

    The better of both trials is kept if it gains enough, and the blend is looked at again, until
    it has twice as many sources as it had peaks, and MOST_MORE: what is left of a bright galaxy
    could be fitted with ever more.
    """
    best = list(fits)
    most = [2 * len(fit.theta) + MOST_MORE for fit in fits]
    going: Sequence[int] = range(len(best))
    for _ in range(ROUNDS):
        trials = [
            (i, t) for i in going for t in _trials(stamps[i], best[i], most[i], priors, device)
        ]
        tried = fit_tasks([task for _, task in trials], priors, device)
        gains: dict[int, float] = {}
        for (i, task), fit in zip(trials, tried, strict=True):
            gain = task.goal - fit.objective
            if gain > gains.get(i, 0.0):
                gains[i], best[i] = gain, fit
        going = sorted(gains)
        if not going:
            break
    return best


def drop_sources(
    stamps: Sequence[Stamp], fits: Sequence[Fit], priors: JointPriors, device: torch.device
) -> list[Fit]:
    """Take out the least significant source of each blend while the fit hardly gets worse."""
    best = list(fits)
    going: Sequence[int] = range(len(best))
    while going:
        tasks = {i: task for i in going if (task := _without_weakest(stamps[i], best[i]))}
        tried = fit_tasks(list(tasks.values()), priors, device)
        going = []
        for i, fit in zip(tasks, tried, strict=True):
            if fit.objective < tasks[i].goal:
                best[i] = fit
                going.append(i)
    return best


def _without_weakest(stamp: Stamp, fit: Fit) -> Task | None:
    """Return the fit without its weakest source, if that is not beyond doubt.

    The last one stays: it was detected.
    """
    if len(fit.theta) < 2 or fit.snr.min() > DOUBTFUL:
        return None
    weakest = int(np.argmin(fit.snr))
    rest = fit.take(np.delete(np.arange(len(fit.theta)), weakest))
    distance = np.hypot(*(rest.theta[:, :2] - fit.theta[weakest, :2]).T)
    return _trial(stamp, rest, np.argsort(distance)[:1], fit.objective + MIN_GAIN)


def _trials(
    stamp: Stamp, fit: Fit, most: int, priors: JointPriors, device: torch.device
) -> Iterator[Task]:
    """Yield fits with more sources to try, at most `most` of them."""
    room = most - len(fit.theta)
    if room < 1:
        return
    models = draw(stamp, fit, device)
    candidates = _candidates(stamp, models)
    added = _significant(stamp, models, candidates, priors, device)[:room]
    if len(added):
        base = fit.add(added, compact=True)
        changed = np.arange(len(fit.theta), len(base.theta))
        yield _trial(stamp, base, changed, fit.objective - MIN_GAIN * len(added))
    longest, half = _longest(stamp, fit)
    if half >= MIN_SPLIT:
        signal = float((stamp.weight * models[longest] ** 2).sum(dtype=np.float64))
        base = _split(fit, longest, min(half, MAX_SPLIT))
        changed = np.arange(len(base.theta) - 2, len(base.theta))
        goal = fit.objective - MIN_GAIN - 0.5 * MODEL_ERROR**2 * signal
        yield _trial(stamp, base, changed, goal)


def _candidates(stamp: Stamp, models: FloatArray) -> Array:
    """Return the positions ``(m, 2)`` of significant peaks of the residual, well apart.

    The light of the models counts as noise too: in each pixel by the part of it that may be
    wrong there, and in the sum over the filter by what does not average out.
    """
    total = models.sum(0)
    weight = stamp.weight / (1 + stamp.weight * (MODEL_ERROR * total) ** 2)
    light = matched_filter(total, weight, stamp.width)
    rest = matched_filter(stamp.image - total, weight, stamp.width)
    image = np.asarray(rest / np.sqrt(1 + (SMOOTH_ERROR * light) ** 2), dtype=np.float32)
    peaks = find_peaks(image, image > CANDIDATE, CANDIDATE, 0.0)
    return refine_peaks(image, peaks)


def _significant(
    stamp: Stamp,
    models: FloatArray,
    xy: Array,
    priors: JointPriors,
    device: torch.device,
) -> Array:
    """Return theta ``(m, 8)`` of the candidates that gain enough on the residual, best first.

    Each is fitted alone, about its position; only the best of those that gain less is let
    through to the joint fit, in which others may make way for it.
    """
    rest = replace(stamp, image=stamp.image - models.sum(0))
    parts = [replace(rest, pixels=_near(stamp, position)) for position in xy]
    tasks = [
        Task(part, position[None], np.ones(1, dtype=bool))
        for part, position in zip(parts, xy, strict=True)
        if len(part.pixels)
    ]
    fits = fit_tasks(tasks, priors, device)
    if not fits:
        return np.zeros((0, 8))
    empty = np.array(
        [0.5 * (t.stamp.at_pixels(t.stamp.weight * t.stamp.image**2)).sum() for t in tasks]
    )
    gain = empty - [fit.objective for fit in fits]
    order = np.argsort(-gain, kind="stable")
    chosen = order[gain[order] > MIN_GAIN]
    if not len(chosen):
        chosen = order[:1][gain[order[:1]] > 0.3 * MIN_GAIN]
    return np.array([fits[i].theta[0] for i in chosen]).reshape(-1, 8)


def _near(stamp: Stamp, xy: Array) -> NDArray[np.intp]:
    y, x = np.indices(stamp.image.shape[1:]).reshape(2, -1)[:, stamp.pixels]
    near = np.hypot(x - xy[0], y - xy[1]) < NEAR * stamp.width
    return np.asarray(stamp.pixels[near])


def _longest(stamp: Stamp, fit: Fit) -> tuple[int, float]:
    """Return the significant source that is longest, and its half-length in pixels.

    Halves at ±s on the major axis, each as wide as the whole is across, have the second moments
    of the whole if s² is the difference of its variances along the two axes.
    """
    if not len(fit.theta):
        return -1, 0.0
    shear = np.hypot(*fit.theta[:, 2:4].T)
    # Variance along an axis of an exponential disk of half-light radius 1: 1.065.
    variance = 1.065 * np.exp(2 * fit.theta[:, 4]) / stamp.pixel_scale**2
    half = np.sqrt(variance * 4 * shear / (1 - shear**2)) * (fit.snr > MIN_SPLIT_SNR)
    return int(np.argmax(half)), float(half.max())


def _split(fit: Fit, source: int, half: float) -> Fit:
    """Return the fit with one source cut in two, the last ones."""
    g1, g2 = fit.theta[source, 2:4]
    angle, shear = 0.5 * np.arctan2(g2, g1), np.hypot(g1, g2)
    step = half * np.array([np.cos(angle), np.sin(angle)])
    halves = np.stack([fit.theta[source]] * 2)
    halves[0, :2] += step
    halves[1, :2] -= step
    halves[:, [2, 3, 6, 7]] = 0
    halves[:, 4:6] += np.log(max((1 - shear) / (1 + shear), 0.3))
    rest = np.delete(np.arange(len(fit.theta)), source)
    return fit.take(rest).add(halves, compact=False)


def _trial(stamp: Stamp, base: Fit, changed: NDArray[np.intp], goal: float) -> Task:
    return Task(stamp, base.theta[:, :2].copy(), base.compact, base, changed, goal)
