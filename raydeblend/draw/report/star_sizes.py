"""Sizes of stars and of the PSF over the field, both from the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure
from numpy.typing import NDArray

from raydeblend.draw.finished import Finished
from raydeblend.draw.maps import east_scale, whole_turn
from raydeblend.draw.report.sample import Sample
from raydeblend.draw.report.style import WIDTH, page_style
from raydeblend.errors import TileError
from raydeblend.evaluate.common.figures import to_png
from raydeblend.fits import read_tile
from raydeblend.flags import Flag
from raydeblend.stellar_psf.stars import moments
from raydeblend.survey import get_survey
from raydeblend.tile import Box, FloatArray

SURE = 0.8
"""Least p_star."""
LEAST_SNR = 50.0
"""From which a star's size is known to a per cent or so."""
UNFIT = Flag.EDGE | Flag.MASKED | Flag.SATURATED
MOST = 200
HALF = 12
"""Half the side, in pixels, of what is read around a star."""
SKY = 9.0
"""Pixels from a star beyond which the median of its stamp is the sky."""
CLIP = 0.3
"""Ratio beyond which it is no star, or no shape."""
PERCENT = 100.0
COLUMNS = 3

Array = NDArray[np.float64]


class BrightStars:
    """A sample of single bright stars without a flag."""

    def __init__(self) -> None:
        self.sample = Sample(MOST, ["tile", "x", "y", "ra", "dec"])

    def add(self, rows: pa.Table) -> None:
        """Offer rows."""
        sure = np.nan_to_num(rows["p_star"].to_numpy()) >= SURE
        bright = np.nan_to_num(rows["snr"].to_numpy()) >= LEAST_SNR
        alone = rows["n_blended"].to_numpy() == 1
        clean = (rows["flags"].to_numpy() & int(UNFIT)) == 0
        self.sample.add(rows.filter(pa.array(sure & bright & alone & clean)))


@dataclass(frozen=True)
class StarSizes:
    """n stars as the pixels show them.

    Attributes
    ----------
    sky
        ``(n, 2)`` ra and dec in degrees.
    excess
        ``(n, bands)`` size over that of the PSF at the place, less 1; NaN where there is none.
    unreadable
        Why stars could not be read, of the last such; empty if all could.
    """

    bands: tuple[str, ...]
    sky: Array
    excess: Array
    unreadable: str = ""

    def median(self) -> Array:
        """Return the median excess ``(bands,)``; NaN for a band without stars."""
        known = np.isfinite(self.excess)
        return np.array(
            [
                np.median(values[there]) if there.any() else np.nan
                for values, there in zip(self.excess.T, known.T, strict=True)
            ]
        )


def measure_stars(finished: Finished, stars: BrightStars) -> StarSizes:
    """Measure the stars' sizes and those of their PSFs on the tiles, if these can still be read."""
    sky, excess, unreadable = [], [], ""
    for row in stars.sample.rows.to_pylist():
        try:
            ratio = _excess(finished, row)
        except (TileError, OSError) as error:
            unreadable = str(error)
            continue
        sky.append((row["ra"], row["dec"]))
        excess.append(ratio)
    bands = finished.run.bands
    return StarSizes(
        bands,
        np.array(sky, dtype=np.float64).reshape(-1, 2),
        np.array(excess, dtype=np.float64).reshape(-1, len(bands)),
        unreadable,
    )


def _excess(finished: Finished, row: dict[str, float]) -> list[float]:
    config = finished.config
    x, y = (int(np.floor(row[name] + 0.5)) for name in ("x", "y"))
    box = Box(y - HALF, x - HALF, y + HALF + 1, x + HALF + 1)
    header = finished.headers[str(row["tile"])]
    tile = read_tile(header, box, get_survey(config.survey), config.bad_planes)
    unusable = tile.unusable.any(axis=(1, 2)) | (tile.image[0].shape != box.shape)
    stamps = tile.psf.at(row["x"], row["y"])
    pairs = zip(tile.image, stamps, unusable, strict=True)
    return [np.nan if lost else size_ratio(image, psf) - 1 for image, psf, lost in pairs]


def size_ratio(image: FloatArray, psf: FloatArray) -> float:
    """Return the size of a star's image ``(y, x)`` over that of the PSF; NaN if one has none.

    Sizes are those of the Gaussians that match best, so both are weighted alike.
    """
    rows, columns = np.indices(image.shape) - np.array(image.shape).reshape(2, 1, 1) // 2
    star = moments(image - np.median(image[np.hypot(rows, columns) > SKY]))
    point = moments(psf)
    if star is None or point is None or abs(star[1] / point[1] - 1) > CLIP:
        return np.nan
    return star[1] / point[1]


@page_style()
def sizes_figure(sizes: StarSizes, field: Array) -> bytes:
    """Draw the stars where they are, colored by their size; north is up, east to the left.

    `field` is ``(n, 2)``: ra and dec of the corners of what is drawn.
    """
    n = len(sizes.bands)
    columns = min(n, COLUMNS)
    lines = -(-n // columns)
    figure = Figure(figsize=(WIDTH, 0.7 + 2.9 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    shown = PERCENT * sizes.excess
    limit = max(1.0, float(np.nanpercentile(np.abs(shown), 95)))
    # All together, so that stars and field are shifted by the same turns.
    ra = whole_turn(np.concatenate([field[:, 0], sizes.sky[:, 0]]))
    edge, ra, dec = ra[: len(field)], ra[len(field) :], sizes.sky[:, 1]
    for axes, band, values in zip(grid.flat, sizes.bands, shown.T, strict=False):
        points = axes.scatter(ra, dec, c=values, cmap="RdBu_r", vmin=-limit, vmax=limit, s=26,
                              edgecolors="0.3", linewidths=0.4, plotnonfinite=False)  # fmt: skip
        there = values[np.isfinite(values)]
        middle = f"median {np.median(there):+.1f} %" if len(there) else "no star measured"
        axes.set_title(f"{band}: {len(there)} stars, {middle}")
        axes.set(xlim=(edge.max(), edge.min()), ylim=(field[:, 1].min(), field[:, 1].max()))
        axes.set_aspect(1 / east_scale(field[:, 1]))
        axes.locator_params(nbins=4)
        axes.ticklabel_format(useOffset=False)
    for axes in list(grid.flat)[n:]:
        axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("ra / deg")
    for axes in grid[:, 0]:
        axes.set_ylabel("dec / deg")
    figure.colorbar(points, ax=grid, label="size over that of the PSF − 1 / %", fraction=0.03)
    return to_png(figure)
