"""Confidence intervals of an evaluation's numbers (Efron & Tibshirani 1993, chapter 13)."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

Interval = tuple[float, float]

RESAMPLES = 1000
SEED = 1993
"""Of the resampling, so that the same scores always give the same intervals."""
_CHUNK = 4_000_000
"""Numbers held at once, 32 MB."""


class Statistic(Protocol):
    """A function as `numpy.mean`: reduces the given axis, keeps the first."""

    def __call__(self, values: NDArray[Any], /, *, axis: int) -> NDArray[Any]:
        """Return one number for each resample; `values` is ``(resamples, n, ...)``, `axis` 1."""
        ...


def interval(
    values: NDArray[Any], statistic: Statistic, rng: np.random.Generator, level: float = 0.95
) -> Interval:
    """Return the percentile interval of a statistic under resampling of the rows.

    Parameters
    ----------
    values
        ``(n, ...)``: a row is what is independent (a blend, not each of its galaxies).
    statistic
        Called as ``statistic(resampled, axis=1)`` with ``resampled`` of shape
        ``(resamples, n, ...)``; returns ``(resamples,)``.  `numpy.mean`, `numpy.median` and
        `numpy.nanmedian` are such functions.
    level
        Probability inside.

    Returns
    -------
    Lower and upper limit; NaN for fewer than two rows, of which nothing can be said.  Resamples
    whose statistic does not exist (the median of no value) are left out.
    """
    values = np.asarray(values)
    if len(values) < 2:
        return float("nan"), float("nan")
    step = max(1, _CHUNK // values.size)
    parts = [
        statistic(values[_rows(len(values), min(step, RESAMPLES - start), rng)], axis=1)
        for start in range(0, RESAMPLES, step)
    ]
    drawn = np.concatenate(parts)
    return _percentiles(drawn[np.isfinite(drawn)], level)


def _rows(n: int, resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rng.integers(0, n, (resamples, n))


def _percentiles(drawn: NDArray[Any], level: float) -> Interval:
    if not drawn.size:
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def fraction_interval(hits: NDArray[np.bool_], level: float = 0.95) -> Interval:
    """Return Wilson's (1927) interval of a fraction, for ``(n,)`` trials.

    The bootstrap of trials that all succeeded has no width, though 20 of 20 leave room for one
    failure in 7; Wilson's interval does not have that fault.
    """
    n = len(hits)
    if n == 0:
        return float("nan"), float("nan")
    limits = binomtest(int(np.sum(hits)), n).proportion_ci(level, method="wilson")
    return float(limits.low), float(limits.high)


def with_interval(value: float, limits: Interval, spec: str) -> str:
    """Format a number and half the width of its interval, as ``55.92 ±0.81``; a dash for NaN.

    The half width is the larger one, so that the interval printed contains the whole.
    """
    if not np.isfinite(value):
        return "–"
    half = max(limits[1] - value, value - limits[0])
    text = format(value, spec)
    return f"{text} ±{format(half, spec.lstrip('+'))}" if np.isfinite(half) else text
