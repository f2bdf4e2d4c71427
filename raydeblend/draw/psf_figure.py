"""The picture of PSFs from stars: size and ellipticity over the tile, and what stars leave."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from raydeblend.evaluate.common.figures import to_png
from raydeblend.stellar_psf.make import cell_centers
from raydeblend.stellar_psf.model import StellarPsf
from raydeblend.stellar_psf.stars import moments

DPI = 110
PANEL = 2.6
GRID = 8
MOST_ROWS = 12
"""Tiles and bands that are drawn."""
FULL_WIDTH = float(np.sqrt(8 * np.log(2)))
PERCENT = 100.0

Array = NDArray[np.float64]


def psf_figure(psfs: Mapping[tuple[str, str], StellarPsf]) -> bytes:
    """Draw as PNG, a row for each tile and band, the first few of them.

    Width of the PSF over the tile with the stars that tell it; its ellipticity as sticks; the
    stars' own less that of the PSF; and the mean of star less PSF, in per cent of the peak.
    """
    shown = dict(list(psfs.items())[:MOST_ROWS])
    figure = Figure(
        figsize=(4.4 * PANEL, (PANEL + 0.4) * len(shown)), dpi=DPI, layout="constrained"
    )
    axes = figure.subplots(len(shown), 4, squeeze=False)
    for row, ((tile, band), psf) in zip(axes, shown.items(), strict=True):
        places, width, shear = _over_tile(psf)
        _draw_size(figure, row[0], psf, width)
        row[0].set_title(f"{tile} {band}: {len(psf.stars)} stars, FWHM in pixels", fontsize=8)
        _draw_sticks(row[1], places, shear)
        row[1].set_title("ellipticity", fontsize=8)
        _draw_scatter(row[2], psf)
        _draw_residual(figure, row[3], psf)
    return to_png(figure)


def _over_tile(psf: StellarPsf) -> tuple[Array, Array, Array]:
    """Return places ``(n, 2)``, sizes ``(n,)`` and shears ``(n, 2)`` on a grid."""
    _, places = cell_centers(psf.terms.shape, GRID)
    return places, *_shapes(psf, places)


def _shapes(psf: StellarPsf, places: Array) -> tuple[Array, Array]:
    found = [moments(stamp) for stamp in psf.at(places)]
    size = np.array([np.nan if one is None else one[1] for one in found])
    shear = np.array([(np.nan, np.nan) if one is None else one[2] for one in found])
    return size, shear.reshape(-1, 2)


def _draw_size(figure: Figure, axes: Axes, psf: StellarPsf, size: Array) -> None:
    height, width = psf.terms.shape
    image = axes.imshow(
        FULL_WIDTH * size.reshape(GRID, GRID), origin="lower", extent=(0, width, 0, height)
    )
    axes.plot(*psf.stars.xy.T, "w.", markersize=2)
    figure.colorbar(image, ax=axes)


def _draw_sticks(axes: Axes, places: Array, shear: Array) -> None:
    angle = 0.5 * np.arctan2(shear[:, 1], shear[:, 0])
    length = np.hypot(*shear.T)
    stick = length * np.cos(angle), length * np.sin(angle)
    drawn = axes.quiver(
        *places.T, *stick, pivot="middle", headwidth=0, headlength=0, headaxislength=0
    )
    axes.quiverkey(drawn, 0.5, -0.17, 0.05, "g = 0.05", labelpos="E", fontproperties={"size": 7})
    axes.set_aspect("equal")


def _draw_scatter(axes: Axes, psf: StellarPsf) -> None:
    size, shear = _shapes(psf, psf.stars.xy)
    off = psf.stars.shear - shear
    axes.plot(*off.T, "k.", markersize=3)
    scatter = PERCENT * float(np.nanstd(psf.stars.size / size - 1))
    axes.set_title(f"stars less PSF: g1, g2; size ± {scatter:.1f} %", fontsize=8)
    axes.locator_params(nbins=4)
    axes.axhline(0, color="0.7", linewidth=0.5)
    axes.axvline(0, color="0.7", linewidth=0.5)


def _draw_residual(figure: Figure, axes: Axes, psf: StellarPsf) -> None:
    middle = psf.at(np.array([psf.terms.shape[::-1]]) / 2)[0]
    percent = PERCENT * psf.residual / float(middle.max())
    limit = float(np.abs(percent).max())
    image = axes.imshow(percent, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit)
    axes.set_title("mean residual, % of the peak", fontsize=8)
    figure.colorbar(image, ax=axes)
