"""Small color pictures of places in tiles, with marks: what a person looks at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from raydeblend import fits
from raydeblend.evaluate.common.figures import DPI, PANEL, show, to_png
from raydeblend.pictures import noise_level
from raydeblend.survey import get_survey

SHOWN, ACROSS = 32, 8
"""Pictures in a gallery at most, and in a row."""
HALF = 26
"""Pixels from the center of a picture to its edge."""
TITLE_LINE = 0.14
"""Inches that a line of a title takes, and the margin above it."""

Floats = NDArray[np.float64]
Images = Callable[[str], NDArray[np.float32]]
"""Gives the image ``(bands, y, x)`` of a tile by its name."""


@dataclass(frozen=True)
class Place:
    """One picture: where it is, what is written above, and what is marked.

    Attributes
    ----------
    xy
        Center in pixels of the tile.
    rows
        ``(n, 2)`` positions of the catalog's rows in pixels of the tile, drawn as circles.
    half
        Pixels from the center to the edge.
    """

    tile: str
    xy: tuple[float, float]
    title: str
    rows: Floats
    half: int = HALF


def tile_images(folder: str, bands: tuple[str, ...], survey: str) -> Images:
    """Return a reader of the tiles of a folder, which keeps the last one."""
    headers = {header.name: header for header in fits.find_tiles(folder, bands)[0]}
    kept: dict[str, NDArray[np.float32]] = {}

    def read(tile: str) -> NDArray[np.float32]:
        if tile not in kept:
            kept.clear()
            header = headers[tile]
            kept[tile] = fits.read_tile(header, header.box, get_survey(survey)).image
        return kept[tile]

    return read


def gallery_figure(places: Sequence[Place], images: Images, caption: str) -> bytes:
    """Draw the first `SHOWN` places, tile by tile."""
    shown = sorted(places[:SHOWN], key=lambda place: place.tile)
    down = max(1, -(-len(shown) // ACROSS))
    lines = max((place.title.count("\n") + 1 for place in shown), default=1)
    figure = Figure(figsize=(PANEL * ACROSS, (PANEL + TITLE_LINE * (lines + 1)) * down), dpi=DPI)
    panels = figure.subplots(down, ACROSS, squeeze=False).ravel()
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    for axes, place in zip(panels, shown, strict=False):
        image = images(place.tile)
        x, y = (round(value) for value in place.xy)
        y0, x0 = max(0, y - place.half), max(0, x - place.half)
        cut = image[:, y0 : y + place.half + 1, x0 : x + place.half + 1]
        show(axes, cut, place.title, noise_level(image[-1]))
        own = place.rows - (x0, y0)
        inside = np.all((own >= 0) & (own < cut.shape[:0:-1]), axis=1)
        axes.scatter(*own[inside].T, s=40, facecolors="none", edgecolors="white", lw=0.8)
    figure.tight_layout(pad=0.3)
    return to_png(figure, caption)
