"""What the injected sources say of a catalog: completeness, biases and pulls by magnitude."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydeblend.inject.sources import CONTROLS, GALAXY
from raydeblend.survey import NJY_ZERO_POINT

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

WIDTH = 0.25
"""Magnitudes in which the completeness falls, 1 / (1 + exp((m - m50) / width))."""
FINE = 0.02
SIGMA_PER_MAD, SMALL_SAMPLE = 1.4826, 0.8
FEWEST_SPREAD = 2
STEP = 0.5
"""Magnitudes of a bin of the table."""


@dataclass(frozen=True)
class BandBin:
    """The fluxes of a bin in one band, numbers weighted as in the sky; NaN of nothing.

    Attributes
    ----------
    bias, scatter
        Median of F / F_true - 1, and 1.4826 times its median absolute deviation.
    pull, pull_width
        The same of (F - F_true) over the stated error.
    pull_width_err
        Standard error of the width, for normal pulls.
    """

    bias: float
    scatter: float
    pull: float
    pull_width: float
    pull_width_err: float


@dataclass(frozen=True)
class InjectedBin:
    """The injected galaxies of a range of magnitudes in the reference band.

    Attributes
    ----------
    n
        How many.
    completeness, completeness_err
        Part that is found, numbers weighted as in the sky, and its standard error.
    purity
        Found over found and shredded off.
    bands
        By name.
    colors
        Median error in magnitudes of the colors of neighboring bands, by names such as ``g-r``.
    offset, position_scatter
        Median offset (x, y), and scatter of one coordinate, in mas.
    """

    low: float
    high: float
    n: int
    completeness: float
    completeness_err: float
    purity: float
    bands: dict[str, BandBin]
    colors: dict[str, float]
    offset: tuple[float, float]
    position_scatter: float


def half_complete(rows: pa.Table, bands: Sequence[str]) -> dict[str, float]:
    """Return the magnitude of each band at which half of the sources are found, where they tell."""
    population = rows.filter(pa.array(~is_control(rows)))
    found = column(population, "found") > 0
    limits = {band: half_limit(_magnitudes(population, band), found) for band in bands}
    return {band: round(limit, 3) for band, limit in limits.items() if np.isfinite(limit)}


def half_limit(magnitude: FloatArray, found: BoolArray) -> float:
    """Return the likeliest m50 of a completeness that falls in `WIDTH`; NaN if it is 0 or 1.

    Parameters
    ----------
    magnitude, found
        ``(n,)``.
    """
    if found.all() or not found.any():
        return float("nan")
    limits = np.arange(magnitude.min() - 1, magnitude.max() + 1, FINE)
    fainter = (magnitude - limits[:, None]) / WIDTH
    cost = np.logaddexp(0, np.where(found, fainter, -fainter)).sum(axis=1)
    return float(limits[cost.argmin()])


def by_magnitude(rows: pa.Table, bands: Sequence[str], step: float = STEP) -> list[InjectedBin]:
    """Return the bins of the injected galaxies that are no controls, the bright first."""
    galaxies = rows.filter(pa.array(np.array(rows["kind"].to_pylist()) == GALAXY))
    magnitude = column(galaxies, "magnitude")
    if not len(magnitude):
        return []
    first, last = np.floor(magnitude.min() / step), np.floor(magnitude.max() / step) + 1
    edges = step * np.arange(first, last + 1)
    return [score_bin(galaxies, low, high, bands) for low, high in pairwise(edges.tolist())]


def score_bin(rows: pa.Table, low: float, high: float, bands: Sequence[str]) -> InjectedBin:
    """Return what the sources with ``low <= magnitude < high`` say."""
    magnitude = column(rows, "magnitude")
    part = rows.filter(pa.array((magnitude >= low) & (magnitude < high)))
    found, weight = column(part, "found"), column(part, "weight")
    rate, error = weighted_part(found, weight)
    offset = 1000 * np.column_stack([column(part, name) for name in ("dx", "dy")])
    seen = offset[np.isfinite(offset).all(axis=1)]
    center = np.array([middle(seen[:, 0]), middle(seen[:, 1])])
    n_found, extra = found.sum(), column(part, "extra").sum()
    return InjectedBin(
        low=low,
        high=high,
        n=len(part),
        completeness=rate,
        completeness_err=error,
        purity=float(n_found / (n_found + extra)) if n_found else float("nan"),
        bands={band: _band_bin(part, band) for band in bands},
        colors={f"{b}-{r}": middle(color_errors(part, b, r), weight) for b, r in pairwise(bands)},
        offset=(float(center[0]), float(center[1])),
        position_scatter=spread((seen - center).ravel()) if len(seen) > 1 else float("nan"),
    )


def weighted_part(hits: FloatArray, weight: FloatArray) -> tuple[float, float]:
    """Return the weighted mean of hits ``(n,)`` of 0 and 1 and its standard error; NaN of none."""
    if not len(hits):
        return float("nan"), float("nan")
    rate = float(np.average(hits, weights=weight))
    effective = effective_number(weight)
    # As if one more of each were seen: a part of 0 or 1 is not exact.
    smooth = (rate * effective + 1) / (effective + 2)
    return rate, float(np.sqrt(smooth * (1 - smooth) / effective))


def effective_number(weight: FloatArray) -> float:
    """Return of how many equal weights the mean is as exact as of these; 0 of none."""
    return float(weight.sum() ** 2 / (weight**2).sum()) if len(weight) else 0.0


def _band_bin(rows: pa.Table, band: str) -> BandBin:
    error, pull = flux_errors(rows, band)
    weight = column(rows, "weight")
    width = spread(pull, weight)
    # The median absolute deviation has 0.37 of a standard deviation's efficiency.
    return BandBin(
        middle(error, weight),
        spread(error, weight),
        middle(pull, weight),
        width,
        float(width * 1.17 / np.sqrt(max(effective_number(weight[np.isfinite(pull)]), 1))),
    )


def flux_errors(rows: pa.Table, band: str) -> tuple[FloatArray, FloatArray]:
    """Return F / F_true - 1 and pull ``(n,)``, NaN where there is no flux."""
    true, flux, error = (
        column(rows, f"{name}_{band}") for name in ("true_flux", "flux", "flux_err")
    )
    return flux / true - 1, (flux - true) / np.where(error > 0, error, np.nan)


def color_errors(rows: pa.Table, blue: str, red: str) -> FloatArray:
    """Return (m_blue - m_red) less the true color ``(n,)``, NaN where a flux is not above 0."""
    ratios = [1 + flux_errors(rows, band)[0] for band in (blue, red)]
    measured = [np.where(ratio > 0, ratio, np.nan) for ratio in ratios]
    return np.asarray(-2.5 * np.log10(measured[0] / measured[1]))


def is_control(rows: pa.Table) -> BoolArray:
    """Tell which sources ``(n,)`` are controls."""
    return np.isin(np.array(rows["kind"].to_pylist(), dtype=np.str_), CONTROLS)


def column(rows: pa.Table, name: str) -> FloatArray:
    """Return a column as float64, NaN where null."""
    return np.asarray(rows[name].to_numpy(), dtype=np.float64)


def middle(values: FloatArray, weight: FloatArray | None = None) -> float:
    """Return the median of the finite values, NaN of none; weighted if there are weights."""
    known = np.isfinite(values)
    order = np.argsort(values[known])
    sorted_, own = values[known][order], _weights(values, weight)[known][order]
    if not len(sorted_):
        return float("nan")
    # Each value stands for its weight around it: with equal weights this is the usual median.
    return float(np.interp(own.sum() / 2, np.cumsum(own) - own / 2, sorted_))


def spread(values: FloatArray, weight: FloatArray | None = None) -> float:
    """Return 1.4826 times the median absolute deviation of the finite values, weighted alike.

    Few values lie nearer to their own median than to that of all (Croux & Rousseeuw 1992).  NaN of
    fewer than two.
    """
    n = effective_number(_weights(values, weight)[np.isfinite(values)])
    if n < FEWEST_SPREAD:
        return float("nan")
    off = np.abs(values - middle(values, weight))
    return n / (n - SMALL_SAMPLE) * SIGMA_PER_MAD * middle(off, weight)


def _weights(values: FloatArray, weight: FloatArray | None) -> FloatArray:
    return np.ones(len(values)) if weight is None else weight


def _magnitudes(rows: pa.Table, band: str) -> FloatArray:
    return np.asarray(NJY_ZERO_POINT - 2.5 * np.log10(column(rows, f"true_flux_{band}")))
