"""How many sources a crowd has: each trial moves a few near ones, and is kept or not by itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.blend_fit import FitRequest
from raydeblend.deblend.joint.candidates import residual_peaks
from raydeblend.deblend.joint.crowds.crowd import Crowd, Trial
from raydeblend.deblend.joint.evidence import are_one, least_gain, least_gain_in_the_dark
from raydeblend.deblend.joint.fitting import fit_requests
from raydeblend.deblend.joint.splits import split_offsets, split_scores, split_source
from raydeblend.fit.parameters import PARAMETERS, POSITION
from raydeblend.tile import BoolArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]


def add_sources(crowd: Crowd, peaks: int) -> set[int]:
    """Try the residual's peaks as more sources, and long sources as two; return which changed.

    Looked at again are only places where something changed, until there are twice as many sources
    as `peaks`, and `extra_sources`.
    """
    config, changed = crowd.settings.config.search, set[int]()
    most = 2 * peaks + config.extra_sources
    crowd.fresh[:] = True
    for _ in range(config.rounds):
        look, crowd.fresh = crowd.fresh, np.zeros_like(crowd.fresh)
        kept: set[int] = set()
        for trial in _trials(crowd, look):
            if trial is not None:
                kept.update(crowd.accept(trial).tolist())
            if len(crowd.members) >= most or crowd.at_limit():
                return changed | kept
        if not kept:
            break
        changed |= kept
    return changed


def _trials(crowd: Crowd, look: BoolArray) -> Iterator[Trial | None]:
    """Yield what is to be accepted, and None for each trial that failed."""
    for theta in _candidates(crowd, look):
        xy = theta[POSITION]
        # What was found before something changed there is asked for in the next look.
        if not _at(crowd.fresh, xy):
            yield _try_candidate(crowd, theta)
    for number in crowd.numbers.tolist():
        xy = crowd.members[number].fit.xy[0]
        if _at(look, xy) and not _at(crowd.fresh, xy):
            yield _try_split(crowd, number)


def _candidates(crowd: Crowd, look: BoolArray) -> Array:
    """Return theta ``(m, 9)`` of the residual's peaks that promise enough alone, best first."""
    stamp, config = crowd.stamp, crowd.settings.config.search
    light = np.asarray(stamp.image - crowd.rest, dtype=np.float32)
    peaks = residual_peaks(stamp, light, config)
    parts: list[float] = []
    thetas: list[Array] = []
    for xy in peaks:
        if not _at(look, xy) or crowd.at_limit():
            continue
        part = crowd.about(xy, config.candidate_radius)
        if not len(part.starts):
            continue
        request = FitRequest(part, xy[None], np.ones(1, dtype=bool))
        (fit,) = fit_requests([request], crowd.settings)
        crowd.work += fit.work
        gain = 0.5 * part.chi2_of_sky - fit.objective
        parts.append(gain / _least_gain(crowd, fit.xy[0]))
        thetas.append(fit.theta[0])
    order = np.argsort(-np.array(parts), kind="stable")
    promising = [thetas[i] for i in order if parts[i] > config.rescue_fraction]
    return np.array(promising).reshape(-1, PARAMETERS)


def _try_candidate(crowd: Crowd, theta: Array) -> Trial | None:
    """Return the trial with another source, compact, if it gains what it must."""
    near = _partners(crowd, theta[POSITION], 1)
    base = crowd.fits(near).add(theta[None], compact=True)
    start = np.concatenate([crowd.starts(near), theta[None, POSITION]])
    least = _least_gain(crowd, theta[POSITION])
    return _kept(crowd, crowd.try_fit(near, base, start, least), least)


def _try_split(crowd: Crowd, number: int) -> Trial | None:
    """Return the trial with a source cut in two, if it promises and gains what it must."""
    stamp, settings, config = crowd.stamp, crowd.settings, crowd.settings.config
    own = crowd.members[number].fit
    offset = split_offsets(stamp, own, config.splits)
    if not offset.any():
        return None
    group = _with_nearest(crowd, number)
    fit, asked = crowd.fits(group), np.zeros((len(group), 2))
    asked[-1] = offset[0]
    part = crowd.part(crowd.samples_of(group, fit.xy), group)
    score = split_scores(part, fit, asked, settings)[-1]
    ends = own.xy + offset, own.xy - offset
    least = min(_least_gain(crowd, end[0]) for end in ends)
    if score <= config.splits.min_score_fraction * least:
        return None
    near = _partners(crowd, own.xy[0], 2, number)
    group = np.append(near, number)
    base = split_source(crowd.fits(group), np.intp(len(near)), offset[0], config.splits)
    start = np.concatenate([crowd.starts(near), base.xy[-2:]])
    dark = least_gain_in_the_dark(part, config.search)
    trial = crowd.try_fit(group, base, start, dark)
    if trial.gain <= dark:
        return None
    return _kept(crowd, trial, _least_gain_of_half(crowd, trial))


def _kept(crowd: Crowd, trial: Trial, least: float) -> Trial | None:
    """Return a trial that gains more than the least, and whose sources are apart."""
    one = are_one(crowd.stamp, trial.fit, crowd.settings.config.prune)
    return None if one or trial.gain <= least else trial


def _with_nearest(crowd: Crowd, number: int) -> Indices:
    """Return the sources that move when one is asked something, that one the last."""
    return np.append(_partners(crowd, crowd.members[number].fit.xy[0], 1, number), number)


def _partners(crowd: Crowd, xy: Array, new: int, *but: int) -> Indices:
    """Return the nearest sources that move in a trial with some new ones."""
    return crowd.near(xy, max(crowd.config.trial_sources - new, 0), but)


def _least_gain(crowd: Crowd, xy: Array) -> float:
    """Return what another source at a position must gain."""
    part = crowd.about(xy, crowd.settings.config.search.underlying_radius)
    return least_gain(part, crowd.light(part)[None], xy, crowd.settings.config.search)


def _least_gain_of_half(crowd: Crowd, trial: Trial) -> float:
    """Return what the fainter one of two halves, the last ones of a trial, must gain."""
    fainter = len(trial.fit.theta) - 2 + int(np.argmin(trial.fit.total[:, -2:].sum(0)))
    xy = trial.fit.xy[fainter]
    part = crowd.about(xy, crowd.settings.config.search.underlying_radius)
    light = crowd.light(part, trial, fainter)
    return least_gain(part, light[None], xy, crowd.settings.config.search)


def _at(places: BoolArray, xy: Array) -> bool:
    """Tell what a mask ``(y, x)`` says of a position, at its edge for one that is off it."""
    y, x = (
        int(np.clip(np.floor(v + 0.5), 0, n - 1))
        for v, n in zip(xy[::-1], places.shape, strict=True)
    )
    return bool(places[y, x])
