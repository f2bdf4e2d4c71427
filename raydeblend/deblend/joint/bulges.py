"""Which galaxies have more bulge than usual, decided by evidence.

Most galaxies are disks with a tenth of their light in the bulge, and where the pixels cannot tell
the prior says so.  A pure de Vaucouleurs galaxy fitted with that prior loses a tenth of its flux,
so the prior has several means (`BulgeDiskPriors.bulges`), and the one that a galaxy's light prefers
is taken, as surveys choose between an exponential and a de Vaucouleurs model for every galaxy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.blend_fit import BlendFit, FitRequest, better_of, refit
from raydeblend.deblend.joint.fitting import fit_requests
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.parameters import BULGE


def choose_bulges(
    stamps: Sequence[Stamp], fits: Sequence[BlendFit], settings: FitSettings
) -> list[BlendFit]:
    """Expect a larger bulge of one source of each blend after the other, where that is better.

    The brightest one is asked first, and none twice, as trials are a large part of the work on a
    crowded blend.
    """
    best = list(fits)
    asked: list[set[tuple[int, int]]] = [set() for _ in fits]
    while True:
        requests: dict[int, FitRequest] = {}
        for i, fit in enumerate(best):
            if fit.limited or settings.limit.reached(fit.work):
                continue
            for source in may_have_larger(fit, settings):
                question = int(source), int(fit.bulge[source])
                if question not in asked[i]:
                    asked[i].add(question)
                    requests[i] = _trial(stamps[i], fit, source)
                    break
        if not requests:
            return best
        tried = fit_requests(list(requests.values()), settings)
        for i, fit in zip(requests, tried, strict=True):
            better = not fit.limited and fit.objective < best[i].objective
            best[i] = better_of(best[i], fit, better)


def may_have_larger(fit: BlendFit, settings: FitSettings) -> NDArray[np.intp]:
    """Return the sources that may have a larger bulge than is expected, brightest first."""
    light = fit.flux.sum(0)
    part = light[:, BULGE] / light.sum(1)
    config, bulges = settings.config.bulges, settings.priors.bulges
    more = part > np.array(bulges)[fit.bulge] + config.min_excess
    largest = fit.bulge == len(bulges) - 1
    chosen = np.flatnonzero(more & ~largest & (fit.snr > config.min_snr))
    return chosen[np.argsort(-light[chosen].sum(1), kind="stable")]


def _trial(stamp: Stamp, fit: BlendFit, source: int) -> FitRequest:
    """Return the fit that expects the next larger bulge of a source."""
    return refit(stamp, larger_bulge(fit, source), np.array([source]), fit.objective)


def larger_bulge(fit: BlendFit, source: int) -> BlendFit:
    """Return a fit that expects the next larger bulge of one source."""
    bulge = fit.bulge.copy()
    bulge[source] += 1
    return replace(fit, bulge=bulge)
