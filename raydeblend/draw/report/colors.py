"""Colors of stars and galaxies, with the stellar locus where it is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from raydeblend.draw.report.magnitudes import magnitudes, stars_among
from raydeblend.draw.report.sample import Sample
from raydeblend.draw.report.style import GALAXY, MARK, STAR, legend_above, page_style
from raydeblend.evaluate.common.figures import to_png
from raydeblend.simulate.population.stars import LOCUS

STANDARD = ("g", "r", "i")
LEAST_SNR = 10.0
"""In each of the three bands."""
MOST = 20_000
"""Stars, and galaxies, that are drawn."""
LIMITS = (-0.8, 2.4)

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Locus:
    """How far stars lie from the stellar locus in g - r and r - i.

    Attributes
    ----------
    n
        Stars within the locus' colors.
    offset, width
        Median and scatter (from the median absolute deviation) in magnitudes, across the locus.
    """

    n: int
    offset: float
    width: float


class Colors:
    """A sample of stars and one of galaxies with three good fluxes.

    Attributes
    ----------
    bands
        The three: g, r and i where they are there, else the first.
    """

    def __init__(self, bands: Sequence[str]) -> None:
        self.bands = three_of(bands)
        names = [f"flux_{band}" for band in self.bands]
        self.stars, self.galaxies = Sample(MOST, names), Sample(MOST, names)

    def add(self, rows: pa.Table) -> None:
        """Offer rows."""
        snr = [
            rows[f"flux_{band}"].to_numpy() / rows[f"flux_err_{band}"].to_numpy()
            for band in self.bands
        ]
        good = (np.nan_to_num(snr) > LEAST_SNR).all(axis=0)
        is_star = stars_among(rows)
        self.stars.add(rows.filter(pa.array(good & is_star)))
        self.galaxies.add(rows.filter(pa.array(good & ~is_star)))

    def of(self, sample: Sample) -> tuple[Array, Array]:
        """Return the colors of a sample: first less second band, second less third."""
        first, second, third = (
            magnitudes(sample.rows[f"flux_{band}"].to_numpy()) for band in self.bands
        )
        return first - second, second - third


def three_of(bands: Sequence[str]) -> tuple[str, ...]:
    """Return g, r, i, or else the first three bands, as many as there are."""
    return STANDARD if set(STANDARD) <= set(bands) else tuple(bands[:3])


def locus_of(colors: Colors) -> Locus | None:
    """Return how far the stars lie from the locus; None for other bands or without stars."""
    if colors.bands != STANDARD:
        return None
    distance = locus_distance(*colors.of(colors.stars))
    near = distance[np.isfinite(distance)]
    if not len(near):
        return None
    middle = float(np.median(near))
    return Locus(len(near), middle, float(1.4826 * np.median(np.abs(near - middle))))


def locus_distance(gr: Array, ri: Array) -> Array:
    """Return the signed distance ``(n,)`` from the nearest point of the locus, in magnitudes.

    Positive towards red r - i; NaN for stars beyond the ends.
    """
    fine = np.linspace(LOCUS[0, 0], LOCUS[-1, 0], 400)
    line = np.column_stack([np.interp(fine, LOCUS[:, 0], LOCUS[:, k]) for k in (2, 3)])
    step = np.gradient(line, axis=0)
    away = np.column_stack([gr, ri])[:, None] - line
    nearest = np.argmin((away**2).sum(axis=2), axis=1)
    rows = np.arange(len(gr))
    along, off = step[nearest], away[rows, nearest]
    across = along[:, 0] * off[:, 1] - along[:, 1] * off[:, 0]
    ends = (nearest == 0) | (nearest == len(fine) - 1)
    return np.where(ends, np.nan, across / np.linalg.norm(along, axis=1))


@page_style()
def colors_figure(colors: Colors) -> bytes:
    """Draw stars and galaxies by two colors."""
    first, second, third = colors.bands
    figure = Figure(figsize=(6.2, 4.9), layout="constrained")
    axes = figure.subplots()
    _points(axes, colors, colors.galaxies, "galaxies", GALAXY)
    _points(axes, colors, colors.stars, "stars", STAR)
    if colors.bands == STANDARD:
        axes.plot(LOCUS[:, 2], LOCUS[:, 3], color=MARK, lw=1.4, label="stellar locus")
    axes.set(xlim=LIMITS, ylim=LIMITS, xlabel=f"{first} − {second} / mag",
             ylabel=f"{second} − {third} / mag")  # fmt: skip
    axes.set_aspect("equal")
    legend_above(axes)
    return to_png(figure)


def _points(axes: Axes, colors: Colors, sample: Sample, name: str, color: str) -> None:
    x, y = colors.of(sample)
    # Few points are dots to look at, many a cloud.
    size = float(np.clip(60 / np.sqrt(max(len(x), 1)), 1.0, 7.0))
    label = f"{len(x):,} {name}"
    axes.scatter(x, y, s=size**2, lw=0, alpha=0.45, color=color, label=label, rasterized=True)
