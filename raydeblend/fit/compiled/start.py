"""Every compiled function of the joint fit called once, so that no fit waits for a compiler."""

from __future__ import annotations

from functools import cache

import numpy as np

from raydeblend.fit.compiled.blend import Blend, make_mixture, make_prior
from raydeblend.fit.compiled.cache import compile_once, ready
from raydeblend.fit.compiled.kernel import fit_blend, render
from raydeblend.fit.compiled.patch import draw_patch
from raydeblend.fit.compiled.prior import PARAMETERS
from raydeblend.fit.compiled.samples import make_samples
from raydeblend.fit.compiled.score import score_gains
from raydeblend.fit.priors import BulgeDiskPriors

WHAT = "the joint fit"


@cache
def prepare_fit() -> None:
    """Compile the joint fit or load it, once in a process; see `cache.ready`."""
    ready(_call_each, WHAT)


def compile_fit() -> None:
    """Compile the joint fit if no process here has done so yet, and load nothing otherwise."""
    compile_once(_call_each, WHAT)


def _call_each() -> None:
    one = np.ones((1, 1), dtype=np.float32)
    samples = make_samples(one, one, np.zeros((2, 1), dtype=np.float32))
    mixture = make_mixture(np.ones((1, 1, 1)), np.array([[[[4.0, 0.0, 4.0]]]]), 0.2)
    start, theta = np.zeros((1, 2)), np.zeros((1, PARAMETERS))
    compact, hidden = np.zeros(1, dtype=bool), np.zeros((1, 1), dtype=bool)
    place = np.zeros((1, 1), dtype=np.int64)
    blend = Blend(samples, mixture, make_prior(BulgeDiskPriors()), start, place, compact, hidden)
    fit_blend(blend, theta, False, np.inf)
    score_gains(blend, theta, np.ones((1, 1)), start, 1.0)
    render(mixture, place, theta, np.ones((1, 1, 2)), samples.x, samples.y)
    draw_patch(mixture, place[0], theta[0], np.ones((1, 2)), 1, 1, 1.0)
