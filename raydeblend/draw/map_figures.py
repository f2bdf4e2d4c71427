"""Sky maps as PNG: one polygon per cell, colored by what its rows say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from raydeblend.draw.maps import CellStatistics, east_scale, unit_vectors, whole_turn
from raydeblend.evaluate.common.figures import to_png
from raydeblend.wording import amount

DPI = 150
SIDE = 3.3
"""Of one map in inches."""
HOLE = "0.75"
MAG = 0.5
"""Least width of a scale of magnitudes."""
POLAR = 80.0
"""Declination from which right ascension is no axis of a map."""

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class SkyMap:
    """One figure: panels side by side that share a scale of colors.

    Attributes
    ----------
    panels
        Values by cell, by what stands above them.
    label, title
        Of the colors, and of the figure.
    colors
        A color map of matplotlib.
    span
        Least width of the scale of colors, in the unit of `label`: smaller differences are noise.
    zero
        Whether the scale begins at 0, or lies around it if it says both signs.
    percent
        Whether values are fractions, shown as percent.
    hole
        What cells without a value are.
    """

    panels: Mapping[str, Float64Array]
    label: str
    title: str
    colors: str
    span: float
    zero: bool = False
    percent: bool = False
    hole: str = "nothing measured"


@dataclass(frozen=True)
class Outlines:
    """The cells as they are drawn.

    Attributes
    ----------
    corners
        ``(n, 4, 2)`` in degrees: ra and dec, or east and north of `pole`.
    pole
        The declination of the pole that the map is about; None for a map of ra and dec.
    """

    corners: Float64Array
    pole: float | None = None


def map_figures(
    cells: Sequence[CellStatistics], bands: Sequence[str], what: Sequence[str] = ()
) -> dict[str, bytes]:
    """Return the maps by name: those asked for, by default all."""
    sky = outlines(np.array([cell.corners for cell in cells]))
    sources = amount(sum(cell.sources for cell in cells), "source")
    said = f"{sources} in {amount(len(cells), 'cell')}"
    maps = {
        "depth": _depth(cells, bands, said),
        "density": _density(cells, said),
        "failures": _failures(cells, said),
        "blended": _blended(cells, said),
    }
    if any(cell.injected for cell in cells):
        maps |= _injected(cells, bands)
    return {name: _figure(sky, each) for name, each in maps.items() if not what or name in what}


def _injected(cells: Sequence[CellStatistics], bands: Sequence[str]) -> dict[str, SkyMap]:
    limit, bias, pull = (
        _by_band(cells, bands, name) for name in ("completeness_50", "flux_bias", "pull_width")
    )
    percent = {name: 100 * values for name, values in bias.items()}
    said = "what injected sources say"
    return {
        "completeness": SkyMap(
            limit, "50 % complete / AB mag", f"Completeness: {said}", "viridis", MAG
        ),
        "bias": SkyMap(percent, "median flux error / %", f"Bias: {said}", "coolwarm", 4, zero=True),
        "pulls": SkyMap(pull, "width of pulls", f"Pulls: {said}", "magma", 2, zero=True),
    }


def _by_band(
    cells: Sequence[CellStatistics], bands: Sequence[str], name: str
) -> dict[str, Float64Array]:
    panels = {}
    for i, band in enumerate(bands):
        values = [getattr(cell.injected, name)[i] if cell.injected else np.nan for cell in cells]
        panels[band] = np.array(values, dtype=np.float64)
    return panels


def _depth(cells: Sequence[CellStatistics], bands: Sequence[str], said: str) -> SkyMap:
    panels = {}
    for i, band in enumerate(bands):
        depth = np.array([cell.depth[i] for cell in cells])
        known = np.isfinite(depth).any()
        panels[f"{band}: median {np.nanmedian(depth):.2f}" if known else band] = depth
    title = f"Depth: what a faint source's flux error says; {said}"
    return SkyMap(panels, "5σ depth / AB mag", title, "viridis", MAG)


def _density(cells: Sequence[CellStatistics], said: str) -> SkyMap:
    density = np.array([cell.density for cell in cells])
    panels = {f"mean {np.nanmean(density):.1f} per arcmin²": density}
    return SkyMap(panels, "sources / arcmin²", f"Density: {said}", "magma", 10, zero=True)


def _failures(cells: Sequence[CellStatistics], said: str) -> SkyMap:
    failed = np.array([cell.failed for cell in cells])
    lost = sum(cell.failed == 1 and not cell.sources for cell in cells)
    panels = {f"{lost} of {len(cells):,} cells failed as a whole": failed}
    drawn = SkyMap(panels, "sources not measured / %", f"Failures: {said}", "inferno_r", 10)
    return replace(drawn, zero=True, percent=True, hole="not done yet")


def _blended(cells: Sequence[CellStatistics], said: str) -> SkyMap:
    blended = np.array([cell.blended for cell in cells])
    panels = {f"mean {100 * np.nanmean(blended):.1f} %": blended}
    drawn = SkyMap(panels, "sources in blends / %", f"Blending: {said}", "cividis", 100)
    return replace(drawn, zero=True, percent=True)


def outlines(corners: Float64Array) -> Outlines:
    """Return corners ``(n, 4, 2)`` of ra and dec as they are drawn, near a pole about it."""
    dec = corners[..., 1]
    if np.abs(dec).max() < POLAR:
        return Outlines(_unwrapped(corners))
    pole = 90.0 if dec.mean() > 0 else -90.0
    x, y, _ = np.moveaxis(unit_vectors(corners), -1, 0)
    # Distances from the pole are true; RA 0 is up, and the map is as seen from within.
    stretch = np.abs(pole - dec) / np.maximum(np.hypot(x, y), 1e-12)
    return Outlines(np.stack([-np.sign(pole) * y, x], axis=-1) * stretch[..., None], pole)


def _unwrapped(corners: Float64Array) -> Float64Array:
    """Return corners ``(n, 4, 2)`` with right ascensions by which a field across 0° is one."""
    return np.stack([whole_turn(corners[..., 0]), corners[..., 1]], axis=-1)


def _figure(sky: Outlines, drawn: SkyMap) -> bytes:
    width, height = _size(sky)
    n = len(drawn.panels)
    figure = Figure(figsize=((width + 1.35) * n + 0.25, height + 1.15), dpi=DPI)
    grid = figure.subplots(1, n, squeeze=False, sharex=True, sharey=True)[0]
    for axes, (name, values) in zip(grid, drawn.panels.items(), strict=True):
        _panel(axes, sky, values, name, drawn)
        if not np.isfinite(values).all():
            axes.legend(
                handles=[Patch(color=HOLE, label=drawn.hole)], fontsize=7, loc="lower right"
            )
    grid[0].set_ylabel("dec / deg" if sky.pole is None else "degrees towards RA 0°")
    figure.supxlabel(_across(sky), fontsize=9)
    # Over a single narrow map a long title takes two lines.
    narrow = n == 1 and width < SIDE
    figure.suptitle(drawn.title.replace(": ", ":\n", 1) if narrow else drawn.title, fontsize=10)
    figure.tight_layout(pad=0.5)
    return to_png(figure)


def _across(sky: Outlines) -> str:
    """Return the label of the first axis, of which all panels have one."""
    if sky.pole is None:
        return "ra / deg"
    towards = 270 if sky.pole > 0 else 90
    return f"degrees from the pole at dec {sky.pole:+.0f}°, towards RA {towards}°"


def _size(sky: Outlines) -> tuple[float, float]:
    """Return the size in inches of a map with equal scales, its longer side `SIDE`."""
    low, high = sky.corners.reshape(-1, 2).min(axis=0), sky.corners.reshape(-1, 2).max(axis=0)
    span = (high - low) * [_east(sky), 1]
    width, height = SIDE * span / span.max()
    return max(float(width), 1.8), max(float(height), 1.2)


def _east(sky: Outlines) -> float:
    """Return how long a unit of the first axis is in the middle of the map."""
    return east_scale(sky.corners[..., 1]) if sky.pole is None else 1.0


def _panel(axes: Axes, sky: Outlines, values: Float64Array, name: str, drawn: SkyMap) -> None:
    shown = 100 * values if drawn.percent else values
    shades = colormaps[drawn.colors].with_extremes(bad=HOLE)
    cells = PolyCollection(
        list(sky.corners), array=shown, cmap=shades, edgecolors="face", linewidths=0.3
    )
    cells.set_clim(*color_range(shown, drawn.span, drawn.zero))
    axes.add_collection(cells)
    axes.set_title(name, fontsize=9)
    axes.set_facecolor("white")
    _sky_axes(axes, sky)
    bar = axes.figure.colorbar(cells, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label(drawn.label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    if not np.isfinite(shown).any():
        # A scale of nothing has no numbers.
        bar.set_ticks([])


def _sky_axes(axes: Axes, sky: Outlines) -> None:
    """North up, east to the left, a degree as long along both."""
    corners = sky.corners.reshape(-1, 2)
    (left, bottom), (right, top) = corners.min(axis=0), corners.max(axis=0)
    margin = 0.03 * max(right - left, top - bottom)
    axes.set(xlim=(right + margin, left - margin), ylim=(bottom - margin, top + margin))
    axes.set_aspect(1 / _east(sky))
    axes.tick_params(labelsize=7)
    if sky.pole is not None:
        return
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    # As many decimals as tell one tick from the next.
    digits = max(0, 1 - int(np.floor(np.log10((top - bottom) / 2))))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ra, _: f"{ra % 360:.{digits}f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda dec, _: f"{dec:+.{digits}f}"))


def color_range(values: Float64Array, span: float, zero: bool) -> tuple[float, float]:
    """Return the ends of a scale of colors: of all but the extreme values, `span` wide or more.

    With `zero` it begins there, or lies around it where there are values of both signs.
    """
    known = values[np.isfinite(values)]
    low, high = np.percentile(known, [1, 99]) if len(known) else (0.0, 0.0)
    if zero and low < 0:
        half = max(-low, high, span / 2)
        return -half, half
    if zero:
        return 0.0, max(float(high), span)
    middle, half = (low + high) / 2, max(high - low, span) / 2
    return middle - half, middle + half
