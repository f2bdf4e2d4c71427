"""Whether probabilities of an unrecognised blend come true as often as they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from raydeblend.evaluate.bootstrap import Interval, fraction_interval

EDGES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Reliability:
    """One bin of probability: how many, the mean that was stated, how often it came true."""

    low: float
    high: float
    n: int
    stated: float
    observed: float
    limits: Interval


def reliability(
    probability: Floats, happened: Bools, edges: Sequence[float] = EDGES
) -> list[Reliability]:
    """Compare ``(n,)`` stated probabilities with what happened; NaN states nothing.

    Bins are half open but for the last; those without a source are left out.
    """
    bins = []
    for low, high in pairwise(edges):
        upper = probability <= high if high == edges[-1] else probability < high
        inside = (probability >= low) & upper
        if inside.any():
            hits = happened[inside]
            stated, observed = float(probability[inside].mean()), float(hits.mean())
            limits = fraction_interval(hits)
            bins.append(Reliability(low, high, len(hits), stated, observed, limits))
    return bins


def expected_error(bins: Sequence[Reliability]) -> float:
    """Return the mean of |stated − observed|, weighted by n (Naeini et al. 2015); NaN of none."""
    weights = [each.n for each in bins]
    errors = [abs(each.stated - each.observed) for each in bins]
    return float(np.average(errors, weights=weights)) if bins else float("nan")


def area_under_curve(probability: Floats, happened: Bools) -> float:
    """Return the chance that one that happened was stated above one that did not; ties count ½."""
    known = np.isfinite(probability)
    yes, no = probability[known & happened], probability[known & ~happened]
    if not len(yes) or not len(no):
        return float("nan")
    below = np.searchsorted(np.sort(no), yes, side="left")
    upto = np.searchsorted(np.sort(no), yes, side="right")
    return float((below + upto).mean() / (2 * len(no)))
