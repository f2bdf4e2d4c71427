"""Figures of an evaluation, as PNG files in memory; each carries its caption."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from raydeblend.pictures import color_image, noise_level

DPI = 150
CAPTION = "Description"
"""Keyword of the PNG text that holds the caption (PNG specification, section 11.3.3.2)."""
PANEL = 1.45
"""Side of a gallery panel in inches."""


def show(axes: Axes, image: NDArray[np.floating], title: str = "", sigma: float = 1.0) -> None:
    """Draw ``(bands, y, x)`` in color, without ticks, the first row at the bottom."""
    axes.imshow(color_image(image, sigma), origin="lower", interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    if title:
        axes.set_title(title, fontsize=8, pad=3)


def to_png(figure: Figure, caption: str = "") -> bytes:
    """Render a figure; the caption goes into the file, where `read_caption` finds it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={CAPTION: caption} if caption else None)
    return buffer.getvalue()


def to_format(figure: Figure, form: str) -> bytes:
    """Render a figure as ``png``, ``pdf`` or ``svg``; equal figures give equal bytes."""
    buffer = io.BytesIO()
    undated = {} if form == "png" else {"CreationDate" if form == "pdf" else "Date": None}
    figure.savefig(buffer, format=form, metadata=undated)
    return buffer.getvalue()


def read_caption(png: bytes) -> str:
    """Return the caption inside a PNG file, empty where there is none."""
    with Image.open(io.BytesIO(png)) as picture:
        return str(picture.info.get(CAPTION, ""))


def survey_figure(
    tile: NDArray[np.floating],
    xy: NDArray[np.floating],
    blend: NDArray[np.floating],
    models: NDArray[np.floating],
    blend_xy: NDArray[np.floating],
) -> bytes:
    """Draw a tile with its detected sources, and one blend with its models and residual.

    Parameters
    ----------
    tile
        ``(bands, y, x)``, bluest band first.
    xy
        ``(n, 2)`` catalog positions in tile pixels.
    blend
        ``(bands, y, x)`` stamp of one blend.
    models
        ``(k, bands, y, x)``, k at least 1; at most the four brightest are shown.
    blend_xy
        ``(k, 2)`` positions in stamp pixels.
    """
    figure = Figure(figsize=(10, 6.3), dpi=DPI)
    grid = figure.add_gridspec(
        3, 5, left=0.01, right=0.99, bottom=0.01, top=0.96, wspace=0.04, hspace=0.14
    )
    sigma = noise_level(tile)
    axes = figure.add_subplot(grid[:, :3])
    show(axes, tile, f"tile with {len(xy)} sources", sigma)
    _mark(axes, xy, size=10)
    shown = models[:4]
    panels = [blend, *shown, blend - models.sum(axis=0)]
    titles = ["blend", *(f"model {i + 1}" for i in range(len(shown))), "residual"]
    for place, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        axes = figure.add_subplot(grid[place // 2, 3 + place % 2])
        show(axes, panel, title, sigma)
        if place == 0:
            _mark(axes, blend_xy, size=40)
    return to_png(figure)


def _mark(axes: Axes, xy: NDArray[np.floating], size: float) -> None:
    axes.scatter(xy[:, 0], xy[:, 1], s=size, facecolors="none", edgecolors="white", lw=0.5)
