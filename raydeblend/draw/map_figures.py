"""Sky maps as PNG: one polygon per cell, coloured by what its rows say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from raydeblend.draw.maps import CellStatistics
from raydeblend.evaluate.figures import to_png

DPI = 150
SIDE = 3.3
"""Of one map in inches."""
HOLE = "0.75"

Float64Array = NDArray[np.float64]


def map_figures(cells: Sequence[CellStatistics], bands: Sequence[str]) -> dict[str, bytes]:
    """Return the maps by name."""
    sky = _unwrapped(np.array([cell.corners for cell in cells]))
    depths = {band: np.array([cell.depth[i] for cell in cells]) for i, band in enumerate(bands)}
    density, failed, blended = (
        np.array([getattr(cell, name) for cell in cells])
        for name in ("density", "failed", "blended")
    )
    n, sources = len(cells), sum(cell.sources for cell in cells)
    said = f"{sources:,} sources in {n:,} cells"
    lost = int(np.sum([cell.failed == 1 and not cell.sources for cell in cells]))
    return {
        "depth": _figure(
            sky,
            {f"{band}: median {np.nanmedian(d):.2f}" if np.isfinite(d).any() else band: d
             for band, d in depths.items()},
            "5σ depth / AB mag",
            f"Depth: what a faint source's flux error says; {said}",
            "viridis",
        ),
        "density": _figure(
            sky,
            {f"mean {np.nanmean(density):.1f} per arcmin²": density},
            "sources / arcmin²",
            f"Density: {said}",
            "magma",
        ),
        "failures": _figure(
            sky,
            {f"{lost} of {n:,} cells failed as a whole": failed},
            "sources not measured / %",
            f"Failures: {said}",
            "inferno_r",
            percent=True,
            hole=False,
        ),
        "blended": _figure(
            sky,
            {f"mean {100 * np.nanmean(blended):.1f} %": blended},
            "sources in blends / %",
            f"Blending: {said}",
            "cividis",
            percent=True,
        ),
    }  # fmt: skip


def _unwrapped(corners: Float64Array) -> Float64Array:
    """Shift right ascensions ``(n, 4, 2)`` by whole turns so that a field across 0° is one."""
    ra = np.radians(corners[..., 0])
    middle = np.degrees(np.arctan2(np.sin(ra).mean(), np.cos(ra).mean()))
    shifted = corners.copy()
    shifted[..., 0] = (corners[..., 0] - middle + 180) % 360 - 180 + middle
    return shifted


def _figure(
    sky: Float64Array,
    panels: dict[str, Float64Array],
    label: str,
    title: str,
    colours: str,
    percent: bool = False,
    hole: bool = True,
) -> bytes:
    width, height = _size(sky)
    n = len(panels)
    figure = Figure(figsize=((width + 1.35) * n + 0.25, height + 1.15), dpi=DPI)
    grid = figure.subplots(1, n, squeeze=False, sharex=True, sharey=True)[0]
    for axes, (name, values) in zip(grid, panels.items(), strict=True):
        _panel(axes, sky, 100 * values if percent else values, name, label, colours, percent)
        if hole and not np.isfinite(values).all():
            axes.legend(handles=[Patch(color=HOLE, label="nothing measured")], fontsize=7)
    grid[0].set_ylabel("dec / deg")
    # Over a single narrow map a long title takes two lines.
    narrow = n == 1 and width < SIDE
    figure.suptitle(title.replace(": ", ":\n", 1) if narrow else title, fontsize=10)
    figure.tight_layout(pad=0.5)
    return to_png(figure)


def _size(sky: Float64Array) -> tuple[float, float]:
    """Return the size in inches of a map with equal scales, its longer side `SIDE`."""
    low, high = sky.reshape(-1, 2).min(axis=0), sky.reshape(-1, 2).max(axis=0)
    span = (high - low) * [np.cos(np.radians((low[1] + high[1]) / 2)), 1]
    width, height = SIDE * span / span.max()
    return max(float(width), 1.8), max(float(height), 1.2)


def _panel(
    axes: Axes,
    sky: Float64Array,
    values: Float64Array,
    name: str,
    label: str,
    colours: str,
    percent: bool,
) -> None:
    low, high = _range(values, percent)
    shades = colormaps[colours].with_extremes(bad=HOLE)
    cells = PolyCollection(list(sky), array=values, cmap=shades, edgecolors="face", linewidths=0.3)
    cells.set_clim(low, high)
    axes.add_collection(cells)
    corners = sky.reshape(-1, 2)
    (left, bottom), (right, top) = corners.min(axis=0), corners.max(axis=0)
    margin = 0.03 * max(right - left, top - bottom)
    # North up, east to the left.
    axes.set(xlim=(right + margin, left - margin), ylim=(bottom - margin, top + margin))
    axes.set_aspect(1 / np.cos(np.radians((bottom + top) / 2)))
    axes.set_title(name, fontsize=9)
    axes.set_xlabel("ra / deg")
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    # As many decimals as tell one tick from the next.
    digits = max(0, 1 - int(np.floor(np.log10((top - bottom) / 2))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ra, _: f"{ra % 360:.{digits}f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda dec, _: f"{dec:+.{digits}f}"))
    axes.tick_params(labelsize=7)
    axes.set_facecolor("white")
    bar = axes.figure.colorbar(cells, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _range(values: Float64Array, percent: bool) -> tuple[float, float]:
    """Return the range of colours: from 0 for fractions, else that of the values."""
    known = values[np.isfinite(values)]
    if not len(known):
        return 0.0, 1.0
    if percent:
        return 0.0, max(float(known.max()), 1.0)
    low, high = np.percentile(known, [1, 99])
    return (low, high) if high > low else (low - 0.5, high + 0.5)
