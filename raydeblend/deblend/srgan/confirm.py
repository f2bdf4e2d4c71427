"""Which of a network's sources the pixels confirm, and which others they show.

The super-resolved image shows where a second source may be; whether it is there, the original
pixels tell better.  All of the network's peaks, doubtful ones too, are fitted together, and each
must lower χ²/2 − ln prior by as much as `least_gain`, or goes.  What is left is then tried with
one source more: at the network's faintest peaks, and with its brightest source cut in two
(Buchanan et al. 2022, whom Hemmati et al. cite, classify the enhanced image instead).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from raydeblend.deblend.joint.blend_fit import BlendFit, FitRequest, refit
from raydeblend.deblend.joint.evidence import are_one
from raydeblend.deblend.joint.fitting import fit_requests
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.deblend.srgan.config import ConfirmConfig
from raydeblend.fit.parameters import LOG_RADII, LOG_RADIUS, POSITION, SHEAR, SHEARS
from raydeblend.fit.priors import BulgeDiskPriors
from raydeblend.fit.profiles import EXPONENTIAL_VARIANCE

Array = NDArray[np.float64]


def confirm_sources(
    stamps: Sequence[Stamp],
    fits: Sequence[BlendFit],
    settings: FitSettings,
    config: ConfirmConfig,
    hints: Sequence[Array] | None = None,
) -> list[BlendFit]:
    """Take out sources that gain too little, then add one where that gains enough.

    Parameters
    ----------
    hints
        For each stamp ``(m, 2)`` positions where one source more may be, the best first.
    """
    kept = drop_unconfirmed(stamps, fits, settings, config)
    if hints is None:
        hints = [np.zeros((0, 2))] * len(kept)
    return add_hinted(stamps, kept, hints, settings, config)


def drop_unconfirmed(
    stamps: Sequence[Stamp],
    fits: Sequence[BlendFit],
    settings: FitSettings,
    config: ConfirmConfig,
) -> list[BlendFit]:
    """Take out the faintest source of each blend until all gain enough; one stays."""
    best = list(fits)
    going: Sequence[int] = range(len(best))
    while going:
        requests = {
            i: _without_faintest(stamps[i], best[i]) for i in going if len(best[i].theta) > 1
        }
        tried = fit_requests(list(requests.values()), settings)
        going = []
        for i, fit in zip(requests, tried, strict=True):
            least = least_gain(stamps[i], fit, config.min_gain, config)
            if (
                are_one(stamps[i], best[i], settings.config.prune)
                or fit.objective < best[i].objective + least
            ):
                best[i] = fit
                going.append(i)
    return best


def add_hinted(
    stamps: Sequence[Stamp],
    fits: Sequence[BlendFit],
    hints: Sequence[Array],
    settings: FitSettings,
    config: ConfirmConfig,
) -> list[BlendFit]:
    """Add to each blend the source that gains most of those that may be there, if it is enough."""
    trials = [
        (i, request)
        for i, (stamp, fit) in enumerate(zip(stamps, fits, strict=True))
        for request in _trials(stamp, fit, hints[i][: config.max_hints], settings.priors, config)
    ]
    tried = fit_requests([request for _, request in trials], settings)
    best = list(fits)
    for (i, request), fit in zip(trials, tried, strict=True):
        better = fit.objective < min(best[i].objective, request.goal)
        if better and not are_one(stamps[i], fit, settings.config.prune):
            best[i] = fit
    return best


def least_gain(stamp: Stamp, fit: BlendFit, least: float, config: ConfirmConfig) -> float:
    """Return by how much one source more than those of a fit must lower the objective.

    By `least` in one band.  Structure of a galaxy looks like another source the more, the more
    significant the galaxy.
    """
    bands = int((stamp.weights > 0).any(axis=1).sum())
    structure = 0.5 * config.model_error**2 * float((fit.snr**2).sum())
    return least + config.band_gain * max(bands - 1, 0) + structure


def _without_faintest(stamp: Stamp, fit: BlendFit) -> FitRequest:
    # By light, not by significance: the configuration was chosen so.
    faintest = int(np.argmin(fit.total.sum(0)))
    return refit(stamp, fit.without(faintest))


def _trials(
    stamp: Stamp, fit: BlendFit, hints: Array, priors: BulgeDiskPriors, config: ConfirmConfig
) -> Iterator[FitRequest]:
    """Yield the fits with one source more to try."""
    if not len(fit.theta):
        return
    goal = fit.objective - least_gain(stamp, fit, config.hint_gain, config)
    for xy in hints[(cdist(hints, fit.xy) > config.hint_radius).all(axis=1)]:
        start = priors.usual(torch.from_numpy(xy[None, None])).numpy()[0]
        yield refit(stamp, fit.add(start, compact=False), goal)
    for halves in _halves(fit, stamp, config):
        yield refit(stamp, halves, goal)


def _halves(fit: BlendFit, stamp: Stamp, config: ConfirmConfig) -> Iterator[BlendFit]:
    """Yield the fit with its brightest source cut in two in several ways, the last ones."""
    source = int(np.argmax(fit.total.sum(0)))
    g1, g2 = fit.theta[source, SHEAR]
    shear, axis = np.hypot(g1, g2), 0.5 * np.arctan2(g2, g1)
    # Two halves at ±s have the variance of the whole if s² is the difference of its variances on
    # the two axes.
    radius2 = np.exp(2 * fit.theta[source, LOG_RADIUS])
    variance = EXPONENTIAL_VARIANCE * radius2 / stamp.pixel_scale**2
    length = np.sqrt(variance * 4 * shear / (1 - shear**2))
    limits = stamp.width * np.array([config.min_half_length, config.max_half_length])
    length = np.clip(length, *limits)
    rest = fit.without(source)
    for angle, part in config.splits:
        step = config.split_offset * stamp.width if part is None else part * length
        offset = step * np.array([np.cos(axis + angle), np.sin(axis + angle)])
        halves = np.stack([fit.theta[source]] * 2)
        halves[:, POSITION] += np.stack([offset, -offset])
        halves[:, SHEARS] = 0
        halves[:, LOG_RADII] += np.log(max((1 - shear) / (1 + shear), config.min_axis_ratio))
        yield rest.add(halves, compact=False)
