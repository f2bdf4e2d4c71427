"""Which galaxies have more bulge than usual, decided by evidence.

Most galaxies are disks with a tenth of their light in the bulge, and where the pixels cannot tell
the prior says so.  A pure de Vaucouleurs galaxy fitted with that prior loses a tenth of its flux,
so the prior has several means (`BulgeDiskPriors.bulges`), and the one that a galaxy's light prefers is
taken, as surveys choose between an exponential and a de Vaucouleurs model for every galaxy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from raydeblend.deblend.joint.scenes import NO_LIMIT, Fit, Limit, Task, better_of, fit_tasks, refit
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.priors import BulgeDiskPriors

MORE = 0.1
"""By how much a fitted bulge's part must be above the expected one for a larger one to be tried."""
MIN_SNR = 10.0
"""Flux over error, all bands together, of a galaxy of which that is asked."""


def choose_bulges(
    stamps: Sequence[Stamp],
    fits: Sequence[Fit],
    priors: BulgeDiskPriors,
    device: torch.device,
    limit: Limit = NO_LIMIT,
) -> list[Fit]:
    """Expect a larger bulge of one source of each blend after the other, where that is better.

    The brightest one is asked first, and none twice, as trials are a large part of the work on a
    crowded blend.
    """
    best = list(fits)
    asked: list[set[tuple[int, int]]] = [set() for _ in fits]
    while True:
        tasks: dict[int, Task] = {}
        for i, fit in enumerate(best):
            if fit.limited or limit.reached(fit.work):
                continue
            for source in _candidates(fit, priors):
                question = int(source), int(fit.bulge[source])
                if question not in asked[i]:
                    asked[i].add(question)
                    tasks[i] = _trial(stamps[i], fit, source)
                    break
        if not tasks:
            return best
        tried = fit_tasks(list(tasks.values()), priors, device, limit)
        for i, fit in zip(tasks, tried, strict=True):
            better = not fit.limited and fit.objective < best[i].objective
            best[i] = better_of(best[i], fit, better)


def _candidates(fit: Fit, priors: BulgeDiskPriors) -> NDArray[np.intp]:
    """Return the sources that may have a larger bulge than is expected, brightest first."""
    light = fit.flux.sum(0)
    part = light[:, 1] / light.sum(1)
    expected = np.array(priors.bulges)[fit.bulge]
    largest = fit.bulge == len(priors.bulges) - 1
    chosen = np.flatnonzero((part > expected + MORE) & ~largest & (fit.snr > MIN_SNR))
    return chosen[np.argsort(-light[chosen].sum(1), kind="stable")]


def _trial(stamp: Stamp, fit: Fit, source: int) -> Task:
    """Return the fit that expects the next larger bulge of a source."""
    bulge = fit.bulge.copy()
    bulge[source] += 1
    return refit(stamp, replace(fit, bulge=bulge), np.array([source]), fit.objective)
