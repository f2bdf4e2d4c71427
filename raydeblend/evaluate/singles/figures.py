"""Figures of the protocol `singles`: the numbers by class, and pictures of what went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from raydeblend.evaluate.common.figures import DPI, to_png
from raydeblend.evaluate.common.gallery import HALF, SHOWN, Images, Place, gallery_figure
from raydeblend.evaluate.common.rows import Row
from raydeblend.evaluate.singles.rows import CLASS, FAR
from raydeblend.evaluate.singles.scores import SingleTable
from raydeblend.simulate.scene import Grid

TILE = Grid(1, 1, 0, 1.0).name(0)
"""Name of a grid's only tile."""
_Y = {
    "split": "split",
    "missed": "missed",
    "flux_bias": "bias of the flux",
    "pull_nmad": "width of the pulls",
    "beyond_5_sigma": "beyond 5σ",
}


def classes_figure(rows: Sequence[Row]) -> bytes:
    """Draw the numbers of each class, deblenders side by side; bars are 95 % intervals."""
    rows = [row for row in rows if row["n_galaxies"] == CLASS]
    grids = list(dict.fromkeys(str(row["grid"]) for row in rows))
    figure = Figure(figsize=(3.2 * len(_Y), 3.0 * len(grids)), dpi=DPI, layout="constrained")
    axes_grid = figure.subplots(len(grids), len(_Y), squeeze=False)
    for line, grid in zip(axes_grid, grids, strict=True):
        own = [row for row in rows if row["grid"] == grid]
        labels = list(dict.fromkeys(str(row["galaxy"]) for row in own))
        names = list(dict.fromkeys(str(row["deblender"]) for row in own))
        for axes, (key, title) in zip(line, _Y.items(), strict=True):
            for i, name in enumerate(names):
                chosen = [row for row in own if row["deblender"] == name]
                value, low, high = (
                    np.array([row[f"{key}{end}"] for row in chosen], dtype=np.float64)
                    for end in ("", "_low", "_high")
                )
                bars = np.nan_to_num([value - low, high - value]).clip(0)
                x = np.arange(len(labels)) + 0.15 * (i - (len(names) - 1) / 2)
                axes.errorbar(x, value, bars, fmt="o", ms=3.5, capsize=2, lw=1, label=name)
            axes.axhline(float(key == "pull_nmad"), color="0.6", lw=0.8, zorder=0)
            axes.set_xticks(np.arange(len(labels)), labels, rotation=60, fontsize=7)
            axes.set_title(f"{title} ({grid})", fontsize=8)
    axes_grid[0, 0].legend(fontsize=7, frameon=False)
    return to_png(
        figure, "Isolated galaxies by class: what is split, missed and wrong. 95 % intervals."
    )


def gallery_figures(
    deblender: str, grid: str, table: SingleTable, images: Images, pixel_scale: float
) -> Mapping[str, bytes]:
    """Draw what was split, what was missed and whose flux was wrong: by name, where there is any.

    Parameters
    ----------
    images
        Of the tile.
    pixel_scale
        Arcsec.
    """
    worst = np.abs(np.nan_to_num(table.pull))
    cases = {
        "split": (table.split, table.rows, "galaxies with more than one row"),
        "missed": (~table.found, -table.magnitude, "galaxies without a row in place"),
        "wrong": (
            (worst > FAR) | table.absurd,
            worst + 1e6 * table.absurd,
            "galaxies with an absurd flux, or one beyond 5σ",
        ),
    }
    figures = {}
    for name, (chosen, order, words) in cases.items():
        rows = np.flatnonzero(chosen)
        rows = rows[np.argsort(-order[rows], kind="stable")][:SHOWN]
        if len(rows):
            caption = (
                f"{grid}: {int(chosen.sum())} of {len(chosen)} {words} with {deblender}, the worst "
                f"{len(rows)} of them. Circles are rows of the catalog; class, true i, rows and "
                "error of the flux above."
            )
            places = [_place(table, int(row), pixel_scale) for row in rows]
            figures[name] = gallery_figure(places, images, caption)
    return figures


def _place(table: SingleTable, row: int, pixel_scale: float) -> Place:
    error = f"{table.error[row]:+.0%}" if np.isfinite(table.error[row]) else "–"
    return Place(
        tile=TILE,
        xy=(float(table.tile_xy[row, 0]), float(table.tile_xy[row, 1])),
        title=f"{table.cls[row]}  {table.magnitude[row]:.1f}\n{table.rows[row]} rows  {error}",
        rows=table.row_xy[table.row_owner == row],
        half=max(HALF, int(4 * table.r50[row] / pixel_scale)),
    )
