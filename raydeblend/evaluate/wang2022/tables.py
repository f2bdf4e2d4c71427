"""Flux recovery, second moments and failures on Wang et al.'s blends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from raydeblend.evaluate.common import metrics
from raydeblend.evaluate.common.bootstrap import fraction_interval
from raydeblend.evaluate.common.regression import fit_log_flux
from raydeblend.evaluate.common.rows import cell, measured
from raydeblend.evaluate.common.tables import Table
from raydeblend.evaluate.wang2022.failures import EQUAL, find_failures
from raydeblend.evaluate.wang2022.paper import PAPER
from raydeblend.evaluate.wang2022.scores import QUALITIES, Scores

PAPER_MERGED = (12, 5)
"""Section III.D: blends of two, of 1000, in whose first model the eye sees both galaxies, and how
many of these are of similar brightness."""

Rows = NDArray[np.int64]


def flux_table(scores: Sequence[Scores]) -> Table:
    """Return the lines through ``log F`` against ``log F_true`` by quality (Figs. 6, 7 and 11).

    The offset is that of the line at the mean of ``log F_true``; it and the scatter are in dex.
    """
    lines = [
        [*names, *_fit_cells(score, galaxy, rows)]
        for score, galaxy in _galaxies(scores)
        for names, rows in _by_quality(score, galaxy)
    ]
    header = ["galaxy", "deblender", "quality", "n", "found", "slope", "offset", "scatter"]
    return Table(header, lines, "Flux recovery")


def _galaxies(scores: Sequence[Scores]) -> Iterator[tuple[Scores, int]]:
    """Yield the scores with each galaxy, in the order of the other tables."""
    for k in sorted({score.n_galaxies for score in scores}):
        for galaxy in range(k):
            yield from ((score, galaxy) for score in scores if score.n_galaxies == k)


def _names(score: Scores, galaxy: int) -> list[str]:
    return [f"{galaxy + 1} of {score.n_galaxies}", score.deblender]


def _by_quality(score: Scores, galaxy: int) -> Iterator[tuple[list[str], Rows]]:
    yield [*_names(score, galaxy), "all"], np.arange(len(score.quality))
    present = [quality for quality in QUALITIES if (score.quality == quality).any()]
    for quality in present if len(present) > 1 else ():
        yield [*_names(score, galaxy), quality], np.flatnonzero(score.quality == quality)


def _fit_cells(score: Scores, galaxy: int, rows: Rows) -> list[str]:
    flux, flux_true = score.flux[rows, galaxy], score.flux_true[rows, galaxy]
    counts = [str(len(rows)), str(int(np.isfinite(flux).sum()))]
    line = fit_log_flux(flux, flux_true)
    if line is None:
        return [*counts, "–", "–", "–"]
    half = float(line.half_band(np.array(line.pivot)))
    positive = np.nan_to_num(flux, nan=-1.0) > 0
    residual = np.log10(flux[positive]) - line(np.log10(flux_true[positive]))
    return [
        *counts,
        f"{line.slope:.3f} ±{line.half_slope():.3f}",
        f"{line.middle - line.pivot:+.3f} ±{half:.3f}",
        cell(measured("scatter", residual, np.std), "scatter", ".3f"),
    ]


def moment_table(scores: Sequence[Scores]) -> Table:
    """Return bias and scatter of the second moments of the found (Figs. 8, 9 and 12), in px²."""
    lines = [
        [*_names(score, galaxy), *_moment_cells(score, galaxy)]
        for score, galaxy in _galaxies(scores)
    ]
    header = ["galaxy", "deblender", "μ11 bias", "NMAD", "μ20−μ02 bias", "NMAD"]
    return Table([*header, "NMAD of true μ11", "of true μ20−μ02"], lines, "Second moments")


def _moment_cells(score: Scores, galaxy: int) -> list[str]:
    truth = score.moments_true[:, galaxy]
    error = score.moments[:, galaxy] - truth
    cells = []
    for values in error.T:
        cells.append(cell(measured("bias", values, metrics.found_median), "bias", "+.3f"))
        cells.append(cell(measured("nmad", values, metrics.found_nmad), "nmad", ".3f"))
    spread = [measured("nmad", values, metrics.found_nmad) for values in truth.T]
    return [*cells, *(cell(row, "nmad", ".2f") for row in spread)]


def failure_table(scores: Sequence[Scores]) -> Table:
    """Return how often each deblender fails, and on blends of equally bright galaxies.

    Counts of blends, with Wilson's 95 % limits.
    """
    lines = []
    for k in sorted({score.n_galaxies for score in scores}):
        lines += [_failure_line(score) for score in scores if score.n_galaxies == k]
        if k == 2:
            merged, equal = PAPER_MERGED
            lines.append(["2", PAPER, "1000", "–", "–", "–", str(merged), str(equal), "–", "–"])
    header = ["galaxies", "deblender", "n", "wrong", "missing", "too many", "two in one"]
    title = f"Failures (equal: fluxes within a factor of {1 / EQUAL:g})"
    return Table([*header, "of these equal", "equal blends", "wrong"], lines, title)


def _failure_line(score: Scores) -> list[str]:
    failures = find_failures(score)
    kinds = (failures.wrong, failures.missing, failures.extra, failures.merged)
    equal = failures.equal
    return [
        str(score.n_galaxies),
        score.deblender,
        str(len(score.quality)),
        *(_count(which) for which in kinds),
        _count(failures.merged & equal),
        str(int(equal.sum())),
        _count(failures.wrong[equal]),
    ]


def _count(which: NDArray[np.bool_]) -> str:
    if not len(which):
        return "0"
    low, high = (round(limit * len(which)) for limit in fraction_interval(which))
    return f"{int(which.sum())} [{low}, {high}]"
