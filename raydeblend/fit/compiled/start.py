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
    one, side = np.ones((1, 1)), np.ones(1, dtype=np.int64)
    image = np.ones((1, 1, 3, 3))
    family = Family(one, np.ones(1), np.array([[[4.0, 0.0, 4.0]]]), 1, np.zeros(5), np.ones(5), 0.2)
    stop, cutouts = Stop(1.0, 0.0, 1), Cutouts(image, image, np.zeros((1, 2)))
    theta, flag = np.zeros((1, 5)), np.zeros(1, dtype=bool)
    found = Solutions(
        theta.copy(),
        theta.copy(),
        one.copy(),
        one.copy(),
        one.copy(),
        np.ones(1),
        flag,
        side.copy(),
    )
    fit_summed(cutouts, family, np.zeros(1), 3, stop, side, 1.0, theta, side.copy(), side.copy())
    fit_windows(cutouts, np.zeros(1, dtype=np.int64), family, theta, side, 1.0, stop, found)
    samples = make_samples(
        *np.ones((2, 1, 1), dtype=np.float32), np.zeros((2, 1), dtype=np.float32)
    )
    refit(
        family, Pixels(*samples, np.zeros((1, 2)), np.ones((1, 1), dtype=bool)), theta, 1, 0.0, 0.0
    )
