"""Tables and figures of the protocol of MADNESS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from raydeblend import access
from raydeblend.evaluate.common.figures import DPI, show, to_png
from raydeblend.evaluate.common.request import Report, Request
from raydeblend.evaluate.common.rows import Row, cell
from raydeblend.evaluate.common.tables import Table
from raydeblend.evaluate.madness.scores import (
    DETECTED,
    GIVEN,
    PAPER_ERRORS,
    FieldScores,
    evaluate_madness,
    load_deblenders,
)
from raydeblend.simulate.fields import FieldSet, draw_fields
from raydeblend.tile import FloatArray

DEFAULT_N = 30
"""Fields."""
_COLUMNS = {
    "aperture_error_r": ("aperture error", ".2%"),
    "flux_mape_r": ("model error", ".2%"),
    "flux_bias_r": ("bias", "+.2%"),
    "flux_nmad_r": ("NMAD", ".2%"),
    "ssim_r": ("SSIM", ".4f"),
    "cosine_r": ("cosine", ".4f"),
}
NOTE = (
    "All columns are in r. Error: mean of the absolute ΔF/F; the paper's is the aperture's, on the "
    "field with the other galaxies' models taken off. A missed galaxy counts as an error of 100 %, "
    "SSIM 0 and cosine 0."
)
TITLES = {
    GIVEN: "Crowded fields, true centroids given",
    DETECTED: "Crowded fields, own detection",
}
SHOWN = ("g", "r", "i")
LIMIT = 0.3
"""Largest |ΔF/F| in the figure; what is beyond is drawn at the edge."""
BINS = 8


def origin(catalog: str | None, held_out: str | None) -> str:
    """Return a sentence that says where the galaxies come from."""
    if catalog is None:
        return "Galaxies: the parametric population."
    name = catalog.rsplit("/", 1)[-1]
    if held_out is None:
        return (
            f"Galaxies: all of {name}; shipped networks were trained on most of them (--data "
            "names a test set whose galaxies were held out). `joint` and `sep` are not trained."
        )
    return (
        f"Galaxies: those of {name} that are held out of training, in {held_out.rsplit('/')[-1]}."
    )


def field_tables(rows: Sequence[Row], notes: Sequence[str] = ()) -> list[Table]:
    """Return the two tables, with the paper's rows in the first, and notes below the second."""
    given, detected = (
        _table(kind, [row for row in rows if row["centroids"] == kind])
        for kind in (GIVEN, DETECTED)
    )
    return [given, replace(detected, after=(NOTE, *notes))]


def _table(kind: str, rows: Sequence[Row]) -> Table:
    header = ["deblender", "fields", "galaxies", *(title for title, _ in _COLUMNS.values())]
    header += ["missed", "spurious", "s/field"]
    lines = [_line(row) for row in rows]
    if kind == GIVEN:
        blank = ["–"] * (len(header) - 4)
        lines += [[name, "–", "–", f"{error:.2%}", *blank] for name, error in PAPER_ERRORS.items()]
    return Table(header, lines, TITLES[kind])


def _line(row: Row) -> list[str]:
    return [
        *(str(row[name]) for name in ("deblender", "fields", "n")),
        *(cell(row, name, spec) for name, (_, spec) in _COLUMNS.items()),
        f"{row['missed']} ({int(row['missed']) / int(row['n']):.1%})",
        str(row["spurious"]),
        f"{row['seconds_per_blend']:.2f}",
    ]


def residual_figure(scores: Sequence[FieldScores]) -> bytes:
    """Draw the aperture's ΔF/F in r against magnitude, a panel for each deblender.

    Color is the blendedness; missed galaxies are marked at the bottom.
    """
    figure = Figure(figsize=(3.3 * len(scores) + 0.9, 3.3), dpi=DPI, layout="constrained")
    grid = figure.subplots(1, len(scores), squeeze=False, sharex=True, sharey=True)[0]
    norm = Normalize(0, 1)
    for axes, score in zip(grid, scores, strict=True):
        _residual_panel(axes, score, norm)
    grid[0].set_ylabel("aperture flux in r: F / F_true − 1")
    figure.colorbar(ScalarMappable(norm, "viridis"), ax=list(grid), label="true blendedness in r")
    figure.suptitle("Fields of 12 to 20 galaxies; line: running median, band: 16 % to 84 %", size=9)
    return to_png(
        figure,
        "Errors of the aperture flux in r against true magnitude, in crowded LSST fields. The "
        "color is the true blendedness; red ticks are galaxies without a model.",
    )


def _residual_panel(axes: Axes, score: FieldScores, norm: Normalize) -> None:
    found, missed = score.exists & score.found, score.exists & ~score.found
    magnitude, error = score.magnitude[found], score.aperture[found]
    color = score.blendedness[found]
    clipped = error.clip(-LIMIT, LIMIT)
    axes.scatter(magnitude, clipped, c=color, norm=norm, s=9, lw=0, alpha=0.8)
    label = f"missed: {missed.sum() / score.exists.sum():.1%}"
    low = np.full(missed.sum(), -LIMIT * 1.06)
    axes.plot(score.magnitude[missed], low, "|", color="tab:red", label=label)
    axes.axhline(0, color="0.5", lw=0.8, zorder=0)
    order = np.argsort(magnitude, kind="stable")
    parts = np.array_split(order, BINS) if len(order) >= 2 * BINS else []
    middle = [float(np.median(magnitude[p])) for p in parts]
    lower, line, upper = (
        [float(np.quantile(clipped[p], q)) for p in parts] for q in (0.16, 0.5, 0.84)
    )
    axes.plot(middle, line, color="k", lw=1.2)
    axes.fill_between(middle, lower, upper, color="0.5", alpha=0.3, lw=0)
    axes.set_ylim(-LIMIT * 1.1, LIMIT * 1.1)
    axes.set_xlabel("true magnitude in r (AB)")
    axes.set_title(f"{score.deblender}, centroids {score.centroids}", size=9)
    axes.legend(loc="upper left", fontsize=7, frameon=False)


def field_figure(scores: Sequence[FieldScores], data: FieldSet) -> bytes:
    """Draw the first field: its image and noiseless truth, each deblender's model and residual."""
    field = data.fields[0]
    figure = Figure(figsize=(2.4 * (len(scores) + 1), 5.2), dpi=DPI, layout="constrained")
    grid = figure.subplots(2, len(scores) + 1, squeeze=False)
    bands = [data.bands.index(band) for band in SHOWN if band in data.bands]
    show(grid[0, 0], field.image[bands], f"image, {len(field.xy)} galaxies")
    show(grid[1, 0], field.isolated.sum(axis=0)[bands], "truth without noise")
    grid[0, 0].plot(*field.xy.T, "o", mfc="none", mec="w", ms=5, mew=0.5)
    for column, score in zip(grid.T[1:], scores, strict=True):
        total = score.models.sum(axis=0) if len(score.models) else np.zeros_like(field.image)
        _pair(column[0], column[1], score, field.image[bands], total[bands])
    figure.suptitle('One field of 41" in g r i; circles: true centroids', size=9)
    return to_png(
        figure,
        "A crowded field of the protocol madness: image and noiseless truth, then the summed "
        "models of each deblender and what they leave.",
    )


def _pair(
    top: Axes, bottom: Axes, score: FieldScores, image: FloatArray, total: FloatArray
) -> None:
    show(top, total, f"{score.deblender}: {len(score.models)} models")
    show(bottom, image - total, "residual")


def run(request: Request) -> Report:
    """Draw the fields, deblend, and report."""
    given, own = load_deblenders(request.compared, request.own_weights)
    access.check_writable(request.out)
    n = request.n or DEFAULT_N
    fields = draw_fields(n, request.seed, request.catalog, request.data)
    rows, scores = evaluate_madness(given, own, fields)
    notes = [origin(request.catalog, request.data)]
    figures = {
        "errors.png": residual_figure(scores),
        "field.png": field_figure(scores, fields),
    }
    return Report(rows, field_tables(rows, notes), figures)
