"""Figure 7 of Hemmati et al. (2022): photometry with and without the recovered positions."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import gaussian_kde

from raydeblend.evaluate.common.figures import DPI, to_png
from raydeblend.evaluate.hemmati2022.photometry import (
    Photometry,
    binned_squares,
    fit_exponential,
    fit_residual,
)

Array = NDArray[np.float64]

DARK, ORANGE, GREEN = "#b3541e", "#f2a65a", "#7fb069"
DEVIATION = 1.5
"""Half height in magnitudes of the lower panels."""


def photometry_figure(photometry: Photometry) -> bytes:
    """Draw measured against true magnitude, and the difference with its regression."""
    figure = Figure(figsize=(8.6, 6.6), dpi=DPI)
    grid = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 2))
    low = float(np.percentile(photometry.true, 1)) - 0.4
    high = float(np.percentile(photometry.true, 99)) + 0.4
    for column, (name, error) in enumerate(photometry.errors().items()):
        _measured_panel(grid[0, column], photometry.true, error, (low, high))
        _residual_panel(grid[1, column], photometry.true, error, (low, high))
        grid[0, column].set_title(name, fontsize=10)
        grid[1, column].set_xlabel("true magnitude (AB, i)")
    grid[0, 0].set_ylabel("measured magnitude")
    grid[1, 0].set_ylabel("measured − true")
    figure.tight_layout(pad=0.6)
    return to_png(figure)


def _measured_panel(axes: Axes, true: Array, error: Array, span: tuple[float, float]) -> None:
    measured = true + error
    axes.scatter(true, measured, s=7, lw=0, color="0.45", alpha=0.6)
    _contours(axes, true, measured, span)
    axes.plot(span, span, "--", color="black", lw=1)
    axes.set(xlim=span, ylim=(span[0] - 1, span[1] + 0.6))
    axes.text(0.04, 0.93, f"n = {len(true)}\nrms {np.sqrt(np.mean(error**2)):.2f} mag, "
              f"median {np.median(error):+.2f}", transform=axes.transAxes, fontsize=8,
              va="top")  # fmt: skip


def _contours(axes: Axes, x: Array, y: Array, span: tuple[float, float]) -> None:
    """Draw the contours that hold 68 and 95 % of the galaxies."""
    if len(x) < 20 or np.ptp(y) < 1e-9:
        return
    density = gaussian_kde(np.stack([x, y]))
    gx, gy = np.meshgrid(np.linspace(*span, 80), np.linspace(span[0] - 1, span[1] + 0.6, 80))
    values = density(np.stack([gx.ravel(), gy.ravel()])).reshape(gx.shape)
    levels = np.percentile(density(np.stack([x, y])), (5, 32))
    if levels[1] > levels[0]:
        axes.contour(gx, gy, values, levels=levels, colors=DARK, linewidths=(1, 1.6))


def _residual_panel(axes: Axes, true: Array, error: Array, span: tuple[float, float]) -> None:
    """Draw differences, the Gaussian process and two levels of noise (section 4.1)."""
    at = np.linspace(*span, 100)
    mean, sigma = fit_residual(true, error, at)
    middle, median, most = binned_squares(true, error - np.interp(true, at, mean))
    axes.scatter(true, error, s=6, lw=0, color="0.45", alpha=0.6)
    for values, color in ((most, GREEN), (median, ORANGE)):
        curve = fit_exponential(middle, values)
        level = np.full(at.shape, np.median(values)) if curve is None else curve(at)
        width = np.sqrt(sigma**2 + level)
        axes.fill_between(at, mean - width, mean + width, color=color, alpha=0.35, lw=0)
    axes.fill_between(at, mean - sigma, mean + sigma, color=DARK, alpha=0.5, lw=0)
    axes.plot(at, mean, color=DARK, lw=1.3, label="Gaussian process")
    axes.axhline(0, color="black", ls="--", lw=0.8)
    axes.set_ylim(-DEVIATION, DEVIATION)
    _inset(axes.inset_axes((0.1, 0.66, 0.38, 0.26)), middle, median, most)


def _inset(axes: Axes, middle: Array, median: Array, most: Array) -> None:
    """Draw the squared differences from the process's mean, with exponentials through them."""
    for values, color in ((median, ORANGE), (most, GREEN)):
        axes.plot(middle, values, ".", color=color, ms=4)
        curve = fit_exponential(middle, values)
        if curve is not None:
            at = np.linspace(middle.min(), middle.max(), 50)
            axes.plot(at, curve(at), color=color, lw=1)
    axes.set_title("variance (mag²): median, 68 %", fontsize=6, pad=2)
    axes.tick_params(labelsize=6)
