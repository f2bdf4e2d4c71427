"""Every compiled function of the photometry called once, so that no fit waits for a compiler."""

from __future__ import annotations

from functools import cache

import numpy as np

from raydeblend.fit.compiled.cache import compile_once, ready
from raydeblend.fit.compiled.galaxy import Family
from raydeblend.fit.compiled.refit import refit
from raydeblend.fit.compiled.samples import make_samples
from raydeblend.fit.compiled.sources import Pixels
from raydeblend.fit.compiled.stamp_fit import (
    Cutouts,
    Solutions,
    Stop,
    fit_summed,
    fit_windows,
)

WHAT = "the photometry"


@cache
def prepare_photometry() -> None:
    """Compile the fits of single profiles or load them, once in a process; see `cache.ready`."""
    ready(_call_each, WHAT)


def compile_photometry() -> None:
    """Compile these fits if no process here has done so yet, and load nothing otherwise."""
    compile_once(_call_each, WHAT)


def _call_each() -> None:
    one, row = np.ones((1, 1)), np.zeros(1, dtype=np.int64)
    sides, evaluations = row + 3, row.copy()
    theta, none = np.zeros((1, 5)), np.zeros((1, 2))
    family = Family(
        one, np.ones(1), np.array([[[4.0, 0.0, 4.0]]]), 1, 1, theta[0], theta[0] + 1, 0.2
    )
    stop, cutouts = Stop(1.0, 0.0, 1), Cutouts(np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3)), none)
    found = Solutions(
        theta=theta.copy(),
        theta_cov=np.ones((1, 5, 5)),
        flux=one.copy(),
        flux_cov=np.ones((1, 1, 1)),
        norm=one.copy(),
        chi2=np.ones(1),
        converged=np.zeros(1, dtype=bool),
        evaluations=evaluations,
    )
    fit_summed(cutouts, family, np.zeros(1), 3, stop, row + 3, 1.0, theta, sides, evaluations)
    fit_windows(cutouts, row, family, theta, sides, 1.0, stop, found)
    pixel = np.ones((1, 1), dtype=np.float32)
    samples = make_samples(pixel, pixel, np.zeros((2, 1), dtype=np.float32))
    refit(family, Pixels(*samples, none, np.ones((1, 1), dtype=bool)), theta, 1, 0.0, 0.0)
