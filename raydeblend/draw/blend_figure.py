"""The figure of one blend: image, models, residual, neighbors and the catalog's measurements."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

import numpy as np
from astropy import units
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from raydeblend.draw.finished import tile_wcs
from raydeblend.draw.inspect import Inspected
from raydeblend.flags import Flag
from raydeblend.pictures import color_image, noise_level
from raydeblend.survey import NJY_ZERO_POINT
from raydeblend.tile import FloatArray

DPI = 150
WIDTH = 10.0
PER_ROW = 6
"""Models side by side."""
MOST_SOURCES = 60
"""Models drawn on their own, and rows of the table; a larger blend says how many more there are."""
LONGEST = 120
"""Letters of a line of flags."""
CHOSEN, OTHER, NEIGHBOR = "#ffb000", "white", "#7fd4ff"
RESIDUAL_SIGMA = 5.0
COMPASS = 1.0
"""Arcsec over which the directions of the sky are taken."""
OUTLINE = [withStroke(linewidth=1.5, foreground="black")]

Row = dict[str, Any]
Line = tuple[int, list[str]]
"""The number of a source, and a word for each column of the table, or for the first ones."""


def blend_figure(seen: Inspected, most: int = MOST_SOURCES) -> Figure:
    """Draw a blend.

    Above: the tile around the footprint (its outline, its sources numbered by brightness,
    neighbors as crosses), all models together, and what they leave, in units of the noise over
    all bands.  Then the models, each alone, and the rows of the catalog: of the `most` brightest
    sources, and of the one asked for in any case.
    """
    rows, shown = seen.rows.to_pylist(), _shown(seen, most)
    lines = _lines(rows, shown, seen.header.bands)
    table = 0.22 * (len(lines) + 2) + 0.1
    top, models = 3.15, WIDTH / PER_ROW * -(-len(shown) // PER_ROW)
    height = 0.55 + top + models + 0.3 + table
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    _title(figure, seen, rows, height)
    _top_row(figure, seen, (height - 0.55 - top) / height, top / height)
    _models(figure, seen, shown, (table + 0.1) / height, models / height)
    _table(figure, seen, lines, len(shown), table / height)
    return figure


def _shown(seen: Inspected, most: int) -> list[int]:
    """Return the numbers of the brightest sources, of the one asked for in any case."""
    n, chosen = len(seen.rows), _chosen(seen)
    brightest = list(range(min(n, most)))
    return brightest if chosen in brightest else [*brightest[:-1], chosen]


def _title(figure: Figure, seen: Inspected, rows: list[Row], height: float) -> None:
    chosen = next(row for row in rows if row["source_id"] == seen.source_id)
    n, drawn = seen.part.n_blended, len(seen.part.models)
    first = f"source {seen.source_id}:  {n} source{'s' * (n > 1)} in its footprint"
    first += f", {drawn} of them here" * (drawn < n)
    second = (
        f"ra {chosen['ra']:.5f}°, dec {chosen['dec']:+.5f}°   tile {chosen['tile']}, "
        f"cell {chosen['cell']}   deblender {chosen['deblender']}, "
        f"photometry {chosen['photometry']}"
    )
    figure.text(0.01, 1 - 0.2 / height, first, fontsize=11, weight="bold", va="center")
    figure.text(0.01, 1 - 0.42 / height, second, fontsize=8, va="center")


def _top_row(figure: Figure, seen: Inspected, bottom: float, height: float) -> None:
    around, model = seen.around, _placed(seen, seen.part.models.sum(axis=0))
    sigma = noise_level(around)
    titles = (_image_title(seen), "models", "residual / noise")
    axes = []
    for i, title in enumerate(titles):
        axes.append(figure.add_axes((0.01 + 0.32 * i, bottom, 0.305, height * 0.91)))
        axes[-1].set_title(title, fontsize=9, pad=3)
    # The stretch of the tile's own image, so that image and models compare.
    _picture(axes[0], color_image(around, sigma))
    _picture(axes[1], color_image(model, sigma))
    image = _significance(axes[2], seen)
    bar = figure.colorbar(image, cax=axes[2].inset_axes((1.02, 0, 0.03, 1)))
    bar.ax.tick_params(labelsize=7)
    axes[0].contour(_footprint(seen), [0.5], colors="white", linewidths=0.6, linestyles="dotted")
    for each in axes:
        _numbers(each, seen)
    offset = np.array([seen.view.x0, seen.view.y0])
    x, y = (seen.neighbors - offset).T
    axes[0].plot(x, y, "x", color=NEIGHBOR, ms=5, mew=1)
    _scale_bar(axes[0], seen)
    _compass(axes[0], seen)


def _image_title(seen: Inspected) -> str:
    bands = seen.header.bands
    colors = f"{bands[-1]}, {bands[len(bands) // 2]}, {bands[0]}" if len(bands) > 1 else bands[0]
    return f"image ({colors});  × neighbors"


def _picture(axes: Axes, picture: NDArray[np.uint8]) -> None:
    axes.imshow(picture, origin="lower", interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])


def _placed(seen: Inspected, stamp: FloatArray) -> FloatArray:
    """Put a stamp ``(bands, y, x)`` where it lies in the view, zero around it."""
    inside = seen.blend.box.clip(seen.view)
    placed = np.zeros((len(stamp), *seen.view.shape), dtype=stamp.dtype)
    there = inside.shift(-seen.view.y0, -seen.view.x0).slices
    placed[:, *there] = stamp[:, *inside.shift(-seen.blend.box.y0, -seen.blend.box.x0).slices]
    return placed


def _footprint(seen: Inspected) -> FloatArray:
    return np.asarray(_placed(seen, seen.blend.footprint[np.newaxis].astype(np.float32))[0])


def _significance(axes: Axes, seen: Inspected) -> Any:
    """Draw the residual over all bands in units of its noise; unusable pixels are gray."""
    blend = seen.blend
    usable = ~blend.unusable
    residual = np.where(usable, blend.image - seen.part.models.sum(axis=0), 0).sum(axis=0)
    noise = np.sqrt(np.where(usable, blend.variance, 0).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(usable.any(axis=0), residual / noise, np.nan)
    known = _placed(seen, np.ones((1, *ratio.shape), np.float32))[0] > 0
    shown = np.where(known, _placed(seen, ratio[np.newaxis].astype(np.float32))[0], np.nan)
    axes.set_facecolor("0.8")
    axes.set_xticks([])
    axes.set_yticks([])
    limits = Normalize(-RESIDUAL_SIGMA, RESIDUAL_SIGMA)
    return axes.imshow(shown, origin="lower", cmap="RdBu_r", interpolation="nearest", norm=limits)


def _numbers(axes: Axes, seen: Inspected) -> None:
    """Mark the sources of the blend, the one asked for in its own color."""
    offset = np.array([seen.blend.box.x0 - seen.view.x0, seen.blend.box.y0 - seen.view.y0])
    chosen = _chosen(seen)
    for i, (x, y) in enumerate(seen.part.xy + offset):
        color = CHOSEN if i == chosen else OTHER
        axes.plot(x, y, "+", color=color, ms=7, mew=1.1, path_effects=OUTLINE)
        axes.annotate(
            str(i + 1),
            (x, y),
            (4, 4),
            textcoords="offset points",
            fontsize=8,
            color=color,
            weight="bold",
            path_effects=OUTLINE,
        )
    axes.set(xlim=(-0.5, seen.view.shape[1] - 0.5), ylim=(-0.5, seen.view.shape[0] - 0.5))


def _chosen(seen: Inspected) -> int:
    """Return the number of the source that was asked for."""
    return int(seen.rows["source_id"].to_pylist().index(seen.source_id))


def _scale_bar(axes: Axes, seen: Inspected) -> None:
    """Draw a bar of a whole number of arcsec, a fifth to a half of the view."""
    side = seen.view.shape[1] * seen.header.pixel_scale
    length = max(s for s in (1, 2, 5, 10, 20, 50, 100) if s <= max(1.0, side / 2))
    pixels = length / seen.header.pixel_scale
    x, y = 0.04 * seen.view.shape[1], 0.05 * seen.view.shape[0]
    axes.plot([x, x + pixels], [y, y], color="white", lw=2, path_effects=OUTLINE)
    text: dict[str, Any] = {"color": "white", "fontsize": 8, "path_effects": OUTLINE}
    axes.text(x, y + 0.02 * seen.view.shape[0], f"{length}″", **text)


def _compass(axes: Axes, seen: Inspected) -> None:
    """Draw where north and east are, in the upper left corner."""
    rows, columns = seen.view.shape
    middle = tile_wcs(seen.header).pixel_to_world(
        seen.view.x0 + columns / 2, seen.view.y0 + rows / 2
    )
    side = min(rows, columns)
    start = np.array([0.16 * side, rows - 0.18 * side])
    for name, angle in (("N", 0.0), ("E", 90.0)):
        there = middle.directional_offset_by(angle * units.deg, COMPASS * units.arcsec)
        x, y = tile_wcs(seen.header).world_to_pixel(there)
        away = np.array([x - seen.view.x0 - columns / 2, y - seen.view.y0 - rows / 2])
        tip = start + 0.08 * side * away / np.linalg.norm(away)
        arrow = {"arrowstyle": "->", "color": "white", "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", tuple(tip), tuple(start), arrowprops=arrow | {"path_effects": OUTLINE})
        x, y = (start + 1.5 * (tip - start)).tolist()
        style: dict[str, Any] = {"color": "white", "fontsize": 7, "path_effects": OUTLINE}
        axes.text(x, y, name, ha="center", va="center", **style)


def _models(
    figure: Figure, seen: Inspected, shown: list[int], bottom: float, height: float
) -> None:
    """Draw models one by one, in the view of the panels above."""
    sigma, chosen = noise_level(seen.around), _chosen(seen)
    n_rows = -(-len(shown) // PER_ROW)
    step = height / n_rows
    for place, i in enumerate(shown):
        row, column = divmod(place, PER_ROW)
        left, low = 0.01 + column * 0.98 / PER_ROW, bottom + (n_rows - 1 - row) * step
        axes = figure.add_axes((left, low, 0.155, step * 0.86))
        _picture(axes, color_image(_placed(seen, seen.part.models[i]), sigma))
        for spine in axes.spines.values():
            spine.set(color=CHOSEN if i == chosen else "0.4", linewidth=2 if i == chosen else 0.8)
        axes.set_title(f"model {i + 1}", fontsize=8, pad=3)


def _table(figure: Figure, seen: Inspected, lines: list[Line], n: int, height: float) -> None:
    """Write the catalog's measurements, a row for each of `n` sources and one for its flags."""
    bands, chosen = seen.header.bands, _chosen(seen)
    names = ["", "source_id", *(f"{band} mag" for band in bands), "S/N", "T / arcsec²"]
    names += ["quality", "blendedness"]
    widths = [0.02, 0.15, *[0.5 / max(len(bands), 3)] * len(bands), 0.06, 0.09, 0.07]
    left = 0.01 + np.concatenate([[0], np.cumsum(widths)])
    step = height / (len(lines) + 2)
    for x, name in zip(left, names, strict=True):
        figure.text(x, height - 0.5 * step, name, fontsize=7.5, weight="bold", va="center")
    for place, (i, line) in enumerate(lines):
        style: dict[str, Any] = {"va": "center", "weight": "bold" if i == chosen else "normal"}
        # A line of flags has less than a word for each column.
        for x, text in zip(left, line, strict=False):
            figure.text(x, height - (place + 1.5) * step, text, fontsize=7.5, **style)
    if len(seen.rows) > n:
        more = len(seen.rows) - n
        text = f"and {more} more source{'s' * (more > 1)} in this footprint"
        figure.text(left[1], 0.5 * step, text, fontsize=7.5, va="center", style="italic")


def _lines(rows: list[Row], shown: list[int], bands: tuple[str, ...]) -> list[Line]:
    """Return the lines of the table, each with the number of its source."""
    lines: list[Line] = []
    for i in shown:
        lines.append((i, _cells(i, rows[i], bands)))
        flags = wrap(", ".join(str(flag.name) for flag in Flag if rows[i]["flags"] & flag), LONGEST)
        lines += [(i, ["", text]) for text in flags]
    return lines


def _cells(i: int, row: Row, bands: tuple[str, ...]) -> list[str]:
    magnitudes = [_magnitude(row[f"flux_{band}"], row[f"flux_err_{band}"]) for band in bands]
    values = [_number(row["snr"], "{:.1f}"), _number(row["T"], "{:.3f}")]
    last = [row["quality"], _number(row["blendedness"], "{:.3f}")]
    return [str(i + 1), str(row["source_id"]), *magnitudes, *values, *last]


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def _magnitude(flux: float | None, error: float | None) -> str:
    """Return the AB magnitude of a flux in nJy, or that flux where it is not positive."""
    if flux is None or error is None:
        return "–"
    if flux <= 0:
        return f"{flux:.0f} ± {error:.0f} nJy"
    sigma = 2.5 / np.log(10) * error / flux
    digits = 2 if sigma >= 0.01 else 3
    return f"{NJY_ZERO_POINT - 2.5 * np.log10(flux):.{digits}f} ± {sigma:.{digits}f}"
