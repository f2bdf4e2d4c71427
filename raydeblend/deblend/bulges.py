"""Which galaxies have more bulge than usual, decided by evidence.

Most galaxies are disks with a tenth of their light in the bulge, and where the pixels cannot tell
the prior says so.  A pure de Vaucouleurs galaxy fitted with that prior loses a tenth of its flux,
so the prior has several means (`JointPriors.bulges`), and the one that a galaxy's light prefers is
taken, as surveys choose between an exponential and a de Vaucouleurs model for every galaxy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from raydeblend.deblend.joint_stamp import Stamp
from raydeblend.deblend.scenes import NO_LIMIT, Fit, Limit, Task, fit_tasks
from raydeblend.measure.joint_priors import JointPriors

MORE = 0.1
"""By how much a fitted bulge's part must be above the expected one for a larger one to be tried."""
MIN_SNR = 10.0
"""Flux over error, all bands together, of a galaxy of which that is asked."""


def choose_bulges(
    stamps: Sequence[Stamp],
    fits: Sequence[Fit],
    priors: JointPriors,
    device: torch.device,
    limit: Limit = NO_LIMIT,
) -> list[Fit]:
    """Expect a larger bulge of one source of each blend after the other, while that is better."""
    best = list(fits)
    going: Sequence[int] = [i for i, fit in enumerate(best) if not fit.limited]
    while going:
        trials = [
            (i, task)
            for i in going
            if not limit.reached(best[i].work)
            for task in _trials(stamps[i], best[i], priors)
        ]
        tried = fit_tasks([task for _, task in trials], priors, device, limit)
        goals = {i: best[i].objective for i in going}
        for (i, _), fit in zip(trials, tried, strict=True):
            better = not fit.limited and fit.objective < best[i].objective
            best[i] = replace(fit if better else best[i], work=best[i].work + fit.work)
        going = [i for i in going if best[i].objective < goals[i]]
    return best


def _trials(stamp: Stamp, fit: Fit, priors: JointPriors) -> Iterator[Task]:
    """Yield the fit with the next larger bulge expected of each source that may have one."""
    if not len(fit.theta):
        return
    light = fit.flux.sum(0)
    part = light[:, 1] / light.sum(1)
    expected = np.array(priors.bulges)[fit.bulge]
    largest = fit.bulge == len(priors.bulges) - 1
    for source in np.flatnonzero((part > expected + MORE) & ~largest & (fit.snr > MIN_SNR)):
        bulge = fit.bulge.copy()
        bulge[source] += 1
        base = replace(fit, bulge=bulge)
        changed = np.array([source])
        yield Task(stamp, fit.theta[:, :2].copy(), fit.compact, base, changed, fit.objective)
