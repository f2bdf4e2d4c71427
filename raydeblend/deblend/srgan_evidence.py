"""Which of a network's sources the pixels confirm.

The super-resolved image shows where a second source may be; whether it is there, the original
pixels tell better.  All of the network's peaks, doubtful ones too, are fitted together, and each
must lower χ²/2 − ln prior by as much as `least_gain`, or goes (Buchanan et al. 2022, whom Hemmati
et al. cite, classify the enhanced image instead).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from raydeblend.deblend.scenes import Fit, Stamp, Task, fit_tasks
from raydeblend.detect.sharp_peaks import PeakRule
from raydeblend.measure.joint_priors import JointPriors

CANDIDATE_RULE = PeakRule(
    threshold=10.0, curvature=8.0, prominence=4.0, contrast=0.12, relative=0.08, smoothing=2.0
)
"""For the network's image, in the unit of `raydeblend.deblend.srgan.SHARP_NOISE`."""
MIN_GAIN = 8.0
"""Chosen, as MODEL_ERROR, on 250 blends and 400 single galaxies of seeds that no evaluation uses,
half of them real HST stamps, so that under 1 % of the single ones are split where HST's image is
not; `evidence.MIN_GAIN` is for sources that no network has pointed at."""
MODEL_ERROR = 0.01
"""Part of a galaxy's light that no bulge + disk describes, and that another source would fit."""


def confirm_sources(
    stamps: Sequence[Stamp], fits: Sequence[Fit], priors: JointPriors, device: torch.device
) -> list[Fit]:
    """Take out the least significant source of each blend until all gain enough; one stays."""
    best = list(fits)
    going: Sequence[int] = range(len(best))
    while going:
        tasks = {i: _without_weakest(stamps[i], best[i]) for i in going if len(best[i].theta) > 1}
        tried = fit_tasks(list(tasks.values()), priors, device)
        going = []
        for i, fit in zip(tasks, tried, strict=True):
            if fit.objective < best[i].objective + least_gain(fit):
                best[i] = fit
                going.append(i)
    return best


def least_gain(fit: Fit) -> float:
    """Return by how much one source more must lower the objective of a fit.

    Structure of a galaxy looks like another source the more, the more significant the galaxy.
    """
    return MIN_GAIN + 0.5 * MODEL_ERROR**2 * float((fit.snr**2).sum())


def _without_weakest(stamp: Stamp, fit: Fit) -> Task:
    weakest = int(np.argmin(fit.snr))
    rest = fit.take(np.delete(np.arange(len(fit.theta)), weakest))
    distance = np.hypot(*(rest.theta[:, :2] - fit.theta[weakest, :2]).T)
    return Task(
        stamp, rest.theta[:, :2].copy(), rest.compact, rest, np.argsort(distance)[:1]
    )  # fmt: skip
