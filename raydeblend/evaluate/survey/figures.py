"""Figures of the protocol `survey`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from raydeblend.evaluate.common.calibration import calibration_figure
from raydeblend.evaluate.common.figures import DPI, to_png
from raydeblend.evaluate.common.rows import Row
from raydeblend.evaluate.survey.rows import (
    BLENDEDNESS,
    DEPTH,
    MAGNITUDE,
    SEPARATION,
    SHAPE_DEPTH,
)
from raydeblend.evaluate.survey.run import SurveyScores

_X = {
    MAGNITUDE: "true magnitude",
    BLENDEDNESS: "true blendedness",
    SEPARATION: "distance to neighbor (arcsec)",
}
_Y = {
    "found": "completeness",
    "flux_bias": "median of F / F_true − 1",
    "flux_nmad": "scatter of F / F_true (NMAD)",
    "pull_nmad": "scatter of error / stated error",
}
LIMIT = 0.5


def trends_figure(rows: Sequence[Row], band: str) -> bytes:
    """Draw completeness, flux bias, scatter and pull against magnitude, blendedness, distance.

    Bars are 95 % intervals.
    """
    figure = Figure(figsize=(10.5, 10.5), dpi=DPI, layout="constrained")
    grid = figure.subplots(len(_Y), len(_X), sharex="col", sharey="row", squeeze=False)
    for column, by in zip(grid.T, _X, strict=True):
        for axes, name in zip(column, _Y, strict=True):
            _trend(axes, [row for row in rows if row["n_galaxies"] == by], name, band)
        unit = f" in {band}" if by == MAGNITUDE else f" ({band} < {DEPTH})"
        column[-1].set_xlabel(_X[by] + unit)
    for axes, title in zip(grid[:, 0], _Y.values(), strict=True):
        axes.set_ylabel(title)
    grid[0, 0].legend(fontsize=8, frameon=False)
    for axes in grid[-1]:
        axes.set_yscale("log")
    figure.suptitle(f"Simulated HSC tiles through the whole pipeline, {band} band", size=10)
    return to_png(
        figure,
        "Catalogs of simulated HSC tiles against the truth: completeness, flux bias, flux scatter "
        "and the calibration of flux errors (1 is right). Bars are 95 % intervals.",
    )


def _trend(axes: Axes, rows: Sequence[Row], name: str, band: str) -> None:
    key = f"{name}_{band}" if name.startswith("pull") else name
    bins = list(dict.fromkeys(str(row["galaxy"]) for row in rows))
    names = list(dict.fromkeys(str(row["deblender"]) for row in rows))
    for i, deblender in enumerate(names):
        own = [row for row in rows if row["deblender"] == deblender]
        x = np.arange(len(bins)) + 0.12 * (i - (len(names) - 1) / 2)
        value, low, high = (
            np.array([row[f"{key}{end}"] for row in own], dtype=np.float64)
            for end in ("", "_low", "_high")
        )
        bars = np.nan_to_num([value - low, high - value])
        axes.errorbar(x, value, bars.clip(0), fmt="o-", ms=3.5, lw=1, capsize=2, label=deblender)
    axes.axhline({"found": 1.0, "pull_nmad": 1.0}.get(name, 0.0), color="0.6", lw=0.8, zorder=0)
    labels = [text.split(" ", 1)[1] for text in bins]
    axes.set_xticks(np.arange(len(bins)), labels, rotation=30, fontsize=8)


def residuals_figure(scores: Sequence[SurveyScores], band: str) -> bytes:
    """Draw each deblender's flux errors, positions and shapes."""
    figure = Figure(figsize=(10.5, 3.2 * len(scores)), dpi=DPI, layout="constrained")
    grid = figure.subplots(len(scores), 3, squeeze=False)
    for row, score in zip(grid, scores, strict=True):
        _flux_panel(row[0], score, band)
        _position_panel(row[1], score, band)
        _shape_panel(row[2], score, band)
    return to_png(
        figure,
        "A row for each deblender: flux errors (clipped at a half) against magnitude, positions "
        "and shapes of the matched galaxies.",
    )


def _flux_panel(axes: Axes, score: SurveyScores, band: str) -> None:
    table = score.galaxies.take(score.galaxies.found)
    error = table.error[:, -1].clip(-LIMIT, LIMIT)
    points = axes.scatter(
        table.magnitude, error, c=table.blendedness, s=5, lw=0, alpha=0.7, vmin=0, vmax=0.5
    )
    axes.axhline(0, color="tab:red", lw=0.8)
    axes.set_xlabel(f"true magnitude in {band}")
    axes.set_ylabel("F / F_true − 1")
    axes.set_title(f"{score.deblender}: fluxes", fontsize=9)
    axes.figure.colorbar(points, ax=axes, label="true blendedness")


def _position_panel(axes: Axes, score: SurveyScores, band: str) -> None:
    table = score.galaxies.take(score.galaxies.found & (score.galaxies.magnitude < DEPTH))
    axes.plot(*(1000 * table.offset.T), ".", ms=2, color="tab:blue", alpha=0.5)
    axes.axhline(0, color="0.6", lw=0.8)
    axes.axvline(0, color="0.6", lw=0.8)
    axes.set(xlim=(-300, 300), ylim=(-300, 300), xlabel="east (mas)", ylabel="north (mas)")
    axes.set_aspect("equal")
    axes.set_title(f"{score.deblender}: catalog − true position, {band} < {DEPTH}", fontsize=9)


def _shape_panel(axes: Axes, score: SurveyScores, band: str) -> None:
    table = score.galaxies.take(score.galaxies.magnitude < SHAPE_DEPTH)
    for i, color in ((0, "tab:blue"), (1, "tab:orange")):
        axes.plot(table.g_true[:, i], table.g[:, i], ".", ms=3, color=color, label=f"g{i + 1}")
    axes.plot([-1, 1], [-1, 1], "--", color="0.5", lw=0.8)
    axes.set(xlim=(-0.8, 0.8), ylim=(-0.8, 0.8), xlabel="true shear", ylabel="measured shear")
    axes.set_title(f"{score.deblender}: shapes, {band} < {SHAPE_DEPTH}", fontsize=9)
    axes.legend(fontsize=7, frameon=False, loc="upper left")


def reliability_figure(scores: Sequence[SurveyScores]) -> bytes | None:
    """Draw whether p_unrecognized_blend comes true; None where no catalog states it."""
    samples: dict[str, tuple[NDArray[np.floating], NDArray[np.bool_]]] = {}
    for score in scores:
        table = score.detections.take(score.detections.pure)
        known = table.take(np.isfinite(table.probability))
        if len(known.probability):
            samples[score.deblender] = known.probability, known.unrecognized
    title = "p_unrecognized_blend in the catalog of simulated HSC tiles"
    return calibration_figure(samples, title) if samples else None
