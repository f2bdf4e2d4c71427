"""Figures 3 to 6, 8 and 9 of Hemmati et al. (2022) from our results."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from raydeblend.evaluate.common.bootstrap import fraction_interval
from raydeblend.evaluate.common.figures import DPI, to_png
from raydeblend.evaluate.hemmati2022.photometry_figure import photometry_figure
from raydeblend.evaluate.hemmati2022.scores import HIGH, LOW, Example, Outcomes, Results
from raydeblend.evaluate.hemmati2022.som import map_blends
from raydeblend.instruments import FACTOR
from raydeblend.simulate.sharp_blends import reference_band

COLORS = {HIGH: "#d9a400", LOW: "#173f6b"}
NETWORK_COLOR, OTHERS = "#7a7a7a", ("tab:red", "tab:green", "tab:purple", "tab:brown")
BINS = 9
FEWEST = 5
"""Blends in a bin that is drawn."""
PANEL = 1.5
LABELS = {
    "separation": 'separation (")',
    "magnitude": "Δ magnitude",
    "fwhm": 'Σ FWHM (")',
    "redshift": "|Δz|",
}
Floats = NDArray[np.floating]


def draw_figures(results: Results, seed: int = 0) -> dict[str, bytes]:
    """Return all figures as PNG files by name."""
    figures = {
        "fractions.png": fraction_figure(results),
        "resolution.png": resolution_figure(results.examples, results.network),
        "peaks.png": peaks_figure(results.examples, results.network),
        "som.png": som_figure(results, seed),
    }
    if len(results.photometry) >= FEWEST:
        figures["photometry.png"] = photometry_figure(results.photometry)
    if len(results.examples[0].blend.bands) > 1:
        figures["bands.png"] = bands_figure(results.examples[0], results.network)
    return figures


def colors(names: Sequence[str], network: str) -> dict[str, str]:
    """Return a color for each method: the paper's for its three."""
    others = iter(OTHERS * len(names))
    known = COLORS | {network: NETWORK_COLOR}
    return {name: known.get(name) or next(others) for name in names}


def fraction_figure(results: Results) -> bytes:
    """Draw the fractions found against what the blends are, and how many there are (Figs. 5, 9)."""
    blends = results.blends
    axes_of = {
        "separation / Σ FWHM": (blends.relative_separation, np.linspace(0, 1.8, BINS + 1)),
        "Δ magnitude (flux ratio)": (blends.magnitude_difference, np.linspace(0, 4.5, BINS + 1)),
        "|Δz|": (blends.delta_z, np.linspace(0, 2.25, BINS + 1)),
    }
    figure = Figure(figsize=(10, 4.4), dpi=DPI)
    grid = figure.subplots(2, 3, sharey="row", height_ratios=(3, 1), sharex="col")
    color = colors(list(blends.found), results.network)
    for column, (label, (values, edges)) in enumerate(axes_of.items()):
        for name, hits in blends.found.items():
            _fraction_line(grid[0, column], values, hits, edges, name, color[name])
        grid[1, column].hist(values, edges.tolist(), color="0.75", edgecolor="0.4", lw=0.6)
        grid[1, column].set(xlabel=label, xlim=(edges[0], edges[-1]))
    grid[0, 0].set(ylabel="fraction of blends found", ylim=(0, 1))
    grid[1, 0].set_ylabel("blends")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="upper center", ncols=6,
                  frameon=False, fontsize=8)  # fmt: skip
    figure.tight_layout(pad=0.5, rect=(0, 0, 1, 0.94))
    return to_png(figure)


def _fraction_line(
    axes: Axes, values: Floats, hits: NDArray[np.bool_], edges: Floats, name: str, color: str
) -> None:
    """Draw a fraction by bins, shaded to its 95 % interval; narrow for all but resolutions."""
    index = np.digitize(values, edges) - 1
    used = [b for b in range(len(edges) - 1) if (index == b).sum() >= FEWEST]
    middle = [(edges[b] + edges[b + 1]) / 2 for b in used]
    style = "-" if name in COLORS or color == NETWORK_COLOR else "--"
    axes.plot(middle, [hits[index == b].mean() for b in used], style, color=color, label=name,
              lw=1.6, marker=".", ms=4)  # fmt: skip
    if style == "-" and used:
        limits = np.array([fraction_interval(hits[index == b]) for b in used]).reshape(-1, 2)
        axes.fill_between(middle, limits[:, 0], limits[:, 1], color=color, alpha=0.25, lw=0)


def som_figure(results: Results, seed: int = 0) -> bytes:
    """Draw the map of the blends: its four parameters, and what is found where (Fig. 6)."""
    names = (HIGH, LOW, results.network)
    blends = results.blends
    drawn = map_blends(parameters(blends), {name: blends.found[name] for name in names}, seed)
    figure = Figure(figsize=(10, 4.2), dpi=DPI)
    grid = figure.subplots(2, 4)
    for axes, (name, values) in zip(grid[0], drawn.parameters.items(), strict=True):
        _map_panel(figure, axes, values, LABELS[name], "viridis")
    for axes, name in zip(grid[1], names, strict=False):
        _map_panel(figure, axes, drawn.fractions[name], f"found: {name}", "cividis", (0, 1))
    gain = drawn.fractions[results.network] - drawn.fractions[LOW]
    _map_panel(figure, grid[1, 3], gain, "gained over HSC", "RdBu", (-1, 1))
    figure.tight_layout(pad=0.6)
    return to_png(figure)


def parameters(blends: Outcomes) -> dict[str, NDArray[np.float64]]:
    """Return the four parameters of the map."""
    return {
        "separation": blends.separation,
        "magnitude": blends.magnitude_difference,
        "fwhm": blends.fwhm,
        "redshift": blends.delta_z,
    }


def _map_panel(
    figure: Figure,
    axes: Axes,
    values: NDArray[np.float64],
    title: str,
    colors: str | Colormap,
    limits: tuple[float, float] | None = None,
) -> None:
    low, high = limits or tuple(np.nanpercentile(values, (2, 98)))
    image = axes.imshow(values, origin="lower", cmap=colors, vmin=low, vmax=high, aspect="equal")
    axes.set_facecolor("white")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=9, pad=3)
    bar = figure.colorbar(image, ax=axes, fraction=0.036, pad=0.03)
    bar.ax.tick_params(labelsize=7)


def resolution_figure(examples: Sequence[Example], network: str) -> bytes:
    """Draw HST's image, HSC's, the network's and its difference from HST's (Fig. 3)."""
    titles = ("HST", "HSC (input)", f"{network}", f"{network} − HST")
    shown = examples[:5]
    figure = Figure(figsize=(PANEL * 4, PANEL * len(shown) + 0.3), dpi=DPI)
    grid = figure.subplots(len(shown), 4, squeeze=False)
    for row, example in zip(grid, shown, strict=True):
        high, low = _images(example)
        panels: list[Floats] = [high, low, example.sharp, example.sharp - high]
        for axes, panel in zip(row, panels, strict=True):
            show(axes, panel, FACTOR**2 if panel is low else 1)
    finish(figure, grid, titles)
    return to_png(figure)


def peaks_figure(examples: Sequence[Example], network: str) -> bytes:
    """Draw both galaxies, their blend at three resolutions, and the peaks found (Fig. 4)."""
    titles = ("galaxy 1", "galaxy 2", "HST", "HSC", network)
    shown = examples[:4]
    figure = Figure(figsize=(PANEL * 5, PANEL * len(shown) + 0.3), dpi=DPI)
    grid = figure.subplots(len(shown), 5, squeeze=False)
    for row, example in zip(grid, shown, strict=True):
        band = reference_band(example.blend.bands)
        high, low = _images(example)
        for k in range(2):
            show(row[k], example.blend.isolated[0, k, band])
            row[k].plot(*example.blend.xy[0, k], "+", color="tab:red", ms=8, mew=1.4)
        images: list[Floats] = [high, low, example.sharp]
        for axes, image, method in zip(row[2:], images, (HIGH, LOW, network), strict=True):
            show(axes, image, FACTOR**2 if image is low else 1)
            axes.plot(*example.peaks[method].T, "o", mfc="none", mec="tab:red", ms=6, mew=1.1)
    finish(figure, grid, titles)
    return to_png(figure)


def bands_figure(example: Example, network: str) -> bytes:
    """Draw all bands at HST's and HSC's resolution and, in its band, the network's (Fig. 8)."""
    bands = example.blend.bands
    figure = Figure(figsize=(PANEL * len(bands), PANEL * 3 + 0.3), dpi=DPI)
    grid = figure.subplots(3, len(bands), squeeze=False)
    reference = reference_band(bands)
    for index in range(len(bands)):
        show(grid[0, index], example.blend.high[0, index])
        show(grid[1, index], example.blend.low[0, index], FACTOR**2)
        if index == reference:
            show(grid[2, index], example.sharp)
        else:
            grid[2, index].axis("off")
    for row, method in zip(grid[:, reference], (HIGH, LOW, network), strict=True):
        row.plot(*example.peaks[method].T, "x", color="tab:red", ms=6)
    finish(figure, grid, bands)
    return to_png(figure)


def _images(example: Example) -> tuple[Floats, Floats]:
    band = reference_band(example.blend.bands)
    return example.blend.high[0, band], example.blend.low[0, band]


def show(axes: Axes, image: Floats, area: int = 1) -> None:
    """Draw ``(y, x)``, flux per fine pixel on one arcsinh scale, on the fine pixels' axes."""
    side = image.shape[0] * (FACTOR if area > 1 else 1)
    scaled = np.arcsinh(image / area / 0.12)
    axes.imshow(scaled, origin="lower", cmap="gray_r", vmin=-1.5, vmax=5.0,
                extent=(-0.5, side - 0.5, -0.5, side - 0.5), interpolation="nearest")  # fmt: skip
    axes.set_xticks([])
    axes.set_yticks([])


def finish(figure: Figure, grid: NDArray[np.object_], titles: Sequence[str]) -> None:
    """Write the titles above the first row and close the gaps."""
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=8, pad=3)
    figure.tight_layout(pad=0.3)
