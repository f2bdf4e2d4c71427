"""Number counts: how many stars and galaxies there are of each magnitude."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from raydeblend.draw.report.style import FAINT, GALAXY, STAR, WIDTH, legend_above, page_style
from raydeblend.evaluate.common.figures import to_png
from raydeblend.survey import NJY_ZERO_POINT

EDGES = np.arange(12.0, 32.01, 0.25)
STAR_LIKELY = 0.5
"""p_star from which a source counts as a star."""
COLUMNS = 3

Array = NDArray[np.float64]


class NumberCounts:
    """Sources by band, kind and magnitude.

    Attributes
    ----------
    stars, galaxies
        ``(bands, bins)`` between `EDGES`.
    faint
        ``(bands,)`` sources without a positive flux.
    """

    def __init__(self, bands: Sequence[str]) -> None:
        self.bands = tuple(bands)
        self.stars = np.zeros((len(bands), len(EDGES) - 1), dtype=np.int64)
        self.galaxies = np.zeros_like(self.stars)
        self.faint = np.zeros(len(bands), dtype=np.int64)

    def add(self, rows: pa.Table) -> None:
        """Count rows."""
        is_star = stars_among(rows)
        for i, band in enumerate(self.bands):
            magnitude = magnitudes(rows[f"flux_{band}"].to_numpy())
            self.faint[i] += np.count_nonzero(np.isnan(magnitude))
            self.stars[i] += np.histogram(magnitude[is_star], EDGES)[0]
            self.galaxies[i] += np.histogram(magnitude[~is_star], EDGES)[0]


def magnitudes(flux: NDArray[np.floating]) -> Array:
    """Return AB magnitudes of fluxes in nJy; NaN where not positive."""
    positive = np.where(np.nan_to_num(flux) > 0, flux, np.nan).astype(np.float64)
    return np.asarray(NJY_ZERO_POINT - 2.5 * np.log10(positive))


def stars_among(rows: pa.Table) -> NDArray[np.bool_]:
    """Tell which rows are stars rather than galaxies; not those of which it is not known."""
    return np.asarray(np.nan_to_num(rows["p_star"].to_numpy()) > STAR_LIKELY)


@page_style()
def counts_figure(counts: NumberCounts, area: float, depth: Sequence[float]) -> bytes:
    """Draw the counts, a panel for each band.

    Parameters
    ----------
    area
        In square arcminutes.
    depth
        Magnitude of five sigma by band; NaN where not known.
    """
    n = len(counts.bands)
    columns = min(n, COLUMNS)
    rows = -(-n // columns)
    figure = Figure(figsize=(WIDTH, 0.5 + 2.5 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for i, axes in enumerate(grid.flat):
        axes.set_visible(i < n)
        if i < n:
            _panel(axes, counts, i, area, depth[i])
    legend_above(grid[0, 0])
    for axes in grid[:, 0]:
        axes.set_ylabel("sources / mag / arcmin²")
    return to_png(figure)


def _panel(axes: Axes, counts: NumberCounts, i: int, area: float, depth: float) -> None:
    band, step = counts.bands[i], EDGES[1] - EDGES[0]
    kinds = (("galaxies", counts.galaxies[i], GALAXY), ("stars", counts.stars[i], STAR))
    for name, number, color in kinds:
        middle = (EDGES[:-1] + EDGES[1:]) / 2
        density, error = number / (step * area), np.sqrt(number) / (step * area)
        there = number > 0
        axes.errorbar(
            middle[there],
            density[there],
            np.minimum(error, 0.9 * density)[there],
            fmt="o",
            ms=3,
            lw=0.9,
            color=color,
            label=name,
        )
    if np.isfinite(depth):
        axes.axvline(depth, color=FAINT, lw=1, ls="--")
        axes.annotate(
            f"5σ: {depth:.2f}",
            (depth, 0.02),
            (-3, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color="0.35",
        )
    axes.set(yscale="log", xlabel=f"{band} / AB mag", xlim=_span(counts))


def _span(counts: NumberCounts) -> tuple[float, float]:
    """Return the magnitudes that any band has sources of."""
    filled = np.flatnonzero((counts.stars + counts.galaxies).any(axis=0))
    if not len(filled):
        return float(EDGES[0]), float(EDGES[-1])
    return float(EDGES[filled[0]] - 0.5), float(EDGES[filled[-1] + 1] + 0.5)
