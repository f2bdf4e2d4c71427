"""Flux and shape recovery on Wang et al.'s blends (2022, Figs. 6 to 12)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from raydeblend.evaluate.common.figures import DPI, to_png
from raydeblend.evaluate.common.metrics import second_moment_size
from raydeblend.evaluate.common.regression import fit_log_flux
from raydeblend.evaluate.wang2022.scores import QUALITIES, Scores

Floats = NDArray[np.float64]

COLORS: Mapping[str, str] = {
    "high": "tab:blue",
    "medium": "tab:orange",
    "low": "tab:red",
    "none": "0.4",
}
"""Of the points, by the deblender's own quality."""
TRUE, RECOVERED, FIT = "tab:green", "tab:blue", "tab:red"
LINE = (
    "Red: line through the logarithms with the 95 % band of the line; dashed: equality; red "
    "ticks at the bottom: missing galaxies."
)


def flux_figure(scores: Sequence[Scores]) -> bytes:
    """Draw recovered against true flux, a row for each galaxy, a column for each deblender."""
    k = scores[0].n_galaxies
    figure = Figure(figsize=(2.4 * len(scores) + 0.5, 2.3 * k + 0.2), dpi=DPI)
    grid = figure.subplots(k, len(scores), squeeze=False, sharex=True, sharey=True)
    for column, score in enumerate(scores):
        grid[0, column].set_title(score.deblender, fontsize=9)
        grid[-1, column].set_xlabel("true flux (sky σ)", fontsize=8)
        for galaxy in range(k):
            _flux_panel(grid[galaxy, column], score, galaxy, np.ones(len(score.flux), dtype=bool))
    for galaxy in range(k):
        grid[galaxy, 0].set_ylabel(
            f"recovered flux (sky σ)\ngalaxy {galaxy + 1} of {k}", fontsize=8
        )
    figure.tight_layout(pad=0.5)
    caption = f"Recovered against true flux, blends of {k} (Wang et al. 2022, Fig. 11). {LINE}"
    return to_png(figure, caption)


def quality_flux_figure(score: Scores) -> bytes:
    """Draw one deblender's fluxes: all, split by quality, and their distribution (Figs. 6, 7)."""
    k, kinds = score.n_galaxies, ("all", *QUALITIES[:3])
    figure = Figure(figsize=(10.2, 2.15 * k + 0.2), dpi=DPI)
    grid = figure.subplots(k, len(kinds) + 1, squeeze=False)
    for galaxy, row in enumerate(grid):
        for axes, kind in zip(row, kinds, strict=False):
            which = np.asarray((score.quality == kind) | (kind == "all"))
            _flux_panel(axes, score, galaxy, which)
            axes.set_xlabel("true flux (sky σ)", fontsize=8)
            axes.set_title(f"{kind}: {which.sum()} blends", fontsize=8)
        row[0].set_ylabel(f"recovered flux (sky σ)\ngalaxy {galaxy + 1} of {k}", fontsize=8)
        _flux_histogram(row[-1], score, galaxy)
    figure.tight_layout(pad=0.5)
    caption = (
        f"Flux recovery of {score.deblender}, blends of {k}, by the quality that it gives itself "
        f"(Wang et al. 2022, Figs. 6 and 7). {LINE} Right: distribution of true (green) and "
        "recovered (blue) fluxes."
    )
    return to_png(figure, caption)


def _flux_panel(axes: Axes, score: Scores, galaxy: int, which: NDArray[np.bool_]) -> None:
    flux, truth = score.flux[which, galaxy], score.flux_true[which, galaxy]
    low, high = 0.5 * score.flux_true.min(), 2 * score.flux_true.max()
    found = np.isfinite(flux)
    axes.plot([low, high], [low, high], "--", color="0.5", lw=0.8, zorder=1)
    # A flux that is not positive has no place on a logarithmic axis.
    colors = [COLORS[str(quality)] for quality in score.quality[which][found]]
    axes.scatter(truth[found], flux[found].clip(low), s=5, lw=0, alpha=0.6, c=colors or None)
    _flux_line(axes, flux, truth)
    missing = f"missing {np.mean(~found):.1%}" if len(found) else "no blends"
    axes.plot(truth[~found], np.full((~found).sum(), low), "|", color=FIT, ms=5)
    axes.text(0.05, 0.9, missing, transform=axes.transAxes, fontsize=7)
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low * 0.9, high))
    axes.tick_params(labelsize=7)


def _flux_line(axes: Axes, flux: Floats, truth: Floats) -> None:
    line = fit_log_flux(flux, truth)
    if line is None:
        return
    x = np.linspace(np.log10(truth.min()), np.log10(truth.max()), 50)
    half = line.half_band(x)
    axes.fill_between(
        10**x, 10 ** (line(x) - half), 10 ** (line(x) + half), color=FIT, alpha=0.25, lw=0
    )
    axes.plot(10**x, 10 ** line(x), color=FIT, lw=0.9)
    axes.text(0.95, 0.05, f"slope {line.slope:.3f} ±{line.half_slope():.3f}", fontsize=7,
              ha="right", transform=axes.transAxes)  # fmt: skip


def _flux_histogram(axes: Axes, score: Scores, galaxy: int) -> None:
    truth, flux = score.flux_true[:, galaxy], score.flux[:, galaxy]
    edges = np.geomspace(0.5 * score.flux_true.min(), 2 * score.flux_true.max(), 25)
    positive = flux[np.nan_to_num(flux, nan=-1.0) > 0]
    axes.hist(truth, edges.tolist(), color=TRUE, alpha=0.5, label="true")
    axes.hist(positive, edges.tolist(), histtype="step", color=RECOVERED, label="recovered")
    axes.set_xscale("log")
    axes.set_xlabel("flux (sky σ)", fontsize=8)
    axes.set_title("galaxies per bin", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.set_ylim(top=1.35 * axes.get_ylim()[1])  # room for the legend
    axes.legend(fontsize=7, frameon=False, loc="upper right", ncols=2, handlelength=1)


def moment_figure(score: Scores) -> bytes:
    """Draw one deblender's second moments: against the truth, in their plane, and |μ2|."""
    k = score.n_galaxies
    figure = Figure(figsize=(10.2, 2.5 * k + 0.2), dpi=DPI)
    grid = figure.subplots(k, 4, squeeze=False)
    for galaxy, row in enumerate(grid):
        truth, moments = score.moments_true[:, galaxy], score.moments[:, galaxy]
        limit = float(np.percentile(np.abs(score.moments_true), 98))
        for component, name in enumerate(("μ11", "μ20 − μ02")):
            _moment_panel(row[component], moments[:, component], truth[:, component], limit, score)
            row[component].set_xlabel(f"true {name} (px²)", fontsize=8)
            row[component].set_ylabel(f"recovered {name} (px²)", fontsize=8, labelpad=0)
        row[0].text(0.05, 0.92, f"galaxy {galaxy + 1} of {k}", fontsize=7,
                    transform=row[0].transAxes)  # fmt: skip
        _moment_plane(row[2], moments, truth, limit)
        _size_histogram(row[3], moments, truth, limit)
    figure.tight_layout(pad=0.5)
    caption = (
        f"Second moments of {score.deblender}, blends of {k}: against the truth, colored by "
        "quality (blue high, orange medium, red low; Wang et al. 2022, Fig. 8); the plane of both "
        "components, true in green and recovered in blue (Figs. 9 and 12); and the distribution "
        "of |μ2|, which rotation does not change (Fig. 10). Unweighted moments over the stamp, "
        "divided by the flux; a few galaxies lie outside the panels."
    )
    return to_png(figure, caption)


def _moment_panel(axes: Axes, moment: Floats, truth: Floats, limit: float, score: Scores) -> None:
    axes.plot([-limit, limit], [-limit, limit], "--", color="0.5", lw=0.8, zorder=1)
    colors = [COLORS[str(quality)] for quality in score.quality]
    axes.scatter(truth, moment, s=5, lw=0, alpha=0.6, c=colors)
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    axes.tick_params(labelsize=7)


def _moment_plane(axes: Axes, moments: Floats, truth: Floats, limit: float) -> None:
    axes.scatter(truth[:, 0], truth[:, 1], s=9, lw=0, alpha=0.7, color=TRUE, label="true")
    axes.scatter(
        moments[:, 0], moments[:, 1], s=3, lw=0, alpha=0.8, color=RECOVERED, label="recovered"
    )
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal")
    axes.set_xlabel("μ11 (px²)", fontsize=8)
    axes.set_ylabel("μ20 − μ02 (px²)", fontsize=8, labelpad=0)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=6, frameon=False, loc="upper left", handletextpad=0, borderpad=0)


def _size_histogram(axes: Axes, moments: Floats, truth: Floats, limit: float) -> None:
    edges = np.linspace(0, 2 * limit, 31).tolist()
    recovered = second_moment_size(moments)
    axes.hist(second_moment_size(truth), edges, color=TRUE, alpha=0.5, label="true")
    axes.hist(recovered[np.isfinite(recovered)], edges, histtype="step", color=RECOVERED,
              label="recovered")  # fmt: skip
    axes.set_xlabel("|μ2| (px²)", fontsize=8)
    axes.set_ylabel("galaxies", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.legend(fontsize=7, frameon=False, loc="upper right")
