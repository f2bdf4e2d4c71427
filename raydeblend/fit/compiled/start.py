"""Every compiled function called once, so that no fit waits for a compiler."""

from __future__ import annotations

from functools import cache

import numpy as np

from raydeblend.fit.compiled.blend import Blend, make_mixture, make_prior, make_samples
from raydeblend.fit.compiled.cache import ready
from raydeblend.fit.compiled.galaxy import Family
from raydeblend.fit.compiled.kernel import fit_blend, render
from raydeblend.fit.compiled.refit import refit
from raydeblend.fit.compiled.score import score_gains
from raydeblend.fit.compiled.sources import Pixels
from raydeblend.fit.compiled.stamp_fit import (
    Cutouts,
    Solutions,
    Stop,
    fit_summed,
    fit_windows,
)
from raydeblend.fit.priors import BulgeDiskPriors


@cache
def prepare_fit() -> None:
    """Compile the joint fit or load it, once in a process; see `cache.ready`."""
    ready(_call_each, "the joint fit")


@cache
def prepare_photometry() -> None:
    """Compile the fits of single profiles or load them, once in a process."""
    ready(_call_photometry, "the photometry")


def _call_each() -> None:
    one = np.ones((1, 1), dtype=np.float32)
    samples = make_samples(one, one, np.zeros((2, 1), dtype=np.float32))
    mixture = make_mixture(np.ones((1, 1)), np.array([[[4.0, 0.0, 4.0]]]), 0.2)
    start, theta = np.zeros((1, 2)), np.zeros((1, 8))
    compact, hidden = np.zeros(1, dtype=bool), np.zeros((1, 1), dtype=bool)
    blend = Blend(
        samples, mixture, make_prior(BulgeDiskPriors()), start, compact, np.zeros(1), hidden
    )
    fit_blend(blend, theta, False, np.inf)
    score_gains(blend, theta, np.ones((1, 1)), start, 1.0)
    render(mixture, theta, np.ones((1, 1, 2)), samples.x, samples.y)


def _call_photometry() -> None:
    one, number = np.ones((1, 1)), np.zeros(1, dtype=np.int64)
    theta, none = np.zeros((1, 5)), np.zeros((1, 2))
    family = Family(one, np.ones(1), np.array([[[4.0, 0.0, 4.0]]]), 1, theta[0], theta[0] + 1, 0.2)
    stop, cutouts = Stop(1.0, 0.0, 1), Cutouts(np.ones((1, 1, 3, 3)), np.ones((1, 1, 3, 3)), none)
    rows = [theta.copy(), theta.copy(), one.copy(), one.copy(), one.copy()]
    found = Solutions(*rows, np.ones(1), np.zeros(1, dtype=bool), number.copy())
    fit_summed(cutouts, family, np.zeros(1), 3, stop, number, 1.0, theta, number, number)
    fit_windows(cutouts, number, family, theta, number, 1.0, stop, found)
    pixel = np.ones((1, 1), dtype=np.float32)
    samples = make_samples(pixel, pixel, np.zeros((2, 1), dtype=np.float32))
    refit(family, Pixels(*samples, none, np.ones((1, 1), dtype=bool)), theta, 1, 0.0, 0.0)
