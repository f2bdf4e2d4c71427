"""Rows of ``metrics.json``: numbers under their fixed names, and their 95 % limits.

The limits of ``name`` are ``name_low`` and ``name_high``; the fixed columns come first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydeblend.evaluate.common import metrics
from raydeblend.evaluate.common.bootstrap import (
    SEED,
    Interval,
    Statistic,
    fraction_interval,
    interval,
    with_interval,
)

Row = dict[str, str | int | float]
Floats = NDArray[np.float64]

FLUX: Mapping[str, Statistic] = {
    "flux_bias": metrics.found_median,
    "flux_nmad": metrics.found_nmad,
    "flux_mape": metrics.capped_mean,
}
MEANS: Mapping[str, Statistic] = {"mean": np.mean, "median": np.median}


def image_columns(name: str, values: Floats, statistics: Mapping[str, Statistic] = MEANS) -> Row:
    """Return ``<name>_<statistic>`` of ``(n, ...)`` values of a metric, a row for each blend."""
    return {
        key: number
        for statistic, function in statistics.items()
        for key, number in measured(f"{name}_{statistic}", values, function).items()
    }


def flux_columns(error: Floats) -> Row:
    """Return bias, scatter and error of the fluxes ``F / F_true - 1``, ``(n, ...)``, and found."""
    columns: Row = {}
    for name, statistic in FLUX.items():
        columns |= measured(name, error, statistic)
    return columns | fraction("found", np.isfinite(error).ravel())


def measured(name: str, values: Floats, statistic: Statistic) -> Row:
    """Return one number and its bootstrap limits; blends are resampled, with all their galaxies."""

    def pooled(drawn: NDArray[Any], /, *, axis: int) -> NDArray[Any]:
        return statistic(drawn.reshape(len(drawn), -1), axis=axis)

    value = float(statistic(np.asarray(values).reshape(1, -1), axis=1)[0])
    return _with_limits(name, value, interval(values, pooled, np.random.default_rng(SEED)))


def fraction(name: str, hits: NDArray[np.bool_]) -> Row:
    """Return a fraction and Wilson's limits."""
    return _with_limits(name, float(np.mean(hits)), fraction_interval(hits))


def _with_limits(name: str, value: float, limits: Interval) -> Row:
    return {name: value, f"{name}_low": limits[0], f"{name}_high": limits[1]}


def fixed_first(row: Row) -> Row:
    """Return the row with the limits after all other columns."""
    limits = {key for key in row if key.endswith(("_low", "_high"))}
    return {k: v for k, v in row.items() if k not in limits} | {k: row[k] for k in sorted(limits)}


def cell(row: Row, name: str, spec: str) -> str:
    """Format a column, with half the width of its interval if it has one: ``55.92 ±0.81``."""
    nothing = float("nan")
    limits = float(row.get(f"{name}_low", nothing)), float(row.get(f"{name}_high", nothing))
    return with_interval(float(row[name]), limits, spec)
