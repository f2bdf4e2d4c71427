"""Completeness, flux bias and pulls from the sources that the run injected into itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from raydeblend import storage
from raydeblend.draw.report.style import BANDS, FAINT, MARK, WIDTH, legend_above, page_style
from raydeblend.evaluate.common.figures import to_png
from raydeblend.evaluate.common.tables import Table, number
from raydeblend.inject.read import FOLDER, read_injected
from raydeblend.inject.sources import GALAXY
from raydeblend.inject.statistics import InjectedBin, half_complete

ABSENT = (
    "This run injected no galaxies, so its completeness was not measured. The counts above end "
    "where the catalog does; the dashed lines are the depth of five sigma."
)
MARKERS = "osD^vP"
FEW = 5
"""Sources of a magnitude below which biases and pulls are not drawn."""


def injected_sources(out: str) -> pa.Table | None:
    """Return the injected sources of a run; None of one that injected no galaxy.

    Raises
    ------
    ConfigError
        If a table of them is damaged.
    """
    if not storage.list_files(storage.join(out, FOLDER), ".parquet"):
        return None
    rows = read_injected(out)
    return rows if GALAXY in rows["kind"].to_pylist() else None


def completeness_table(bins: Sequence[InjectedBin], bands: Sequence[str]) -> Table:
    """Return the numbers of the figure, the bright first."""
    header = ["magnitude", "injected", "complete", "pure"]
    header += [f"{word} {band}" for band in bands for word in ("bias", "pull width")]
    rows = [
        [
            f"{each.low:g}–{each.high:g}",
            str(each.n),
            f"{each.completeness:.2f} ± {each.completeness_err:.2f}",
            number(each.purity, ".2f"),
            *(
                number(value, spec)
                for band in bands
                for value, spec in (
                    (each.bands[band].bias, "+.3f"),
                    (each.bands[band].pull_width, ".2f"),
                )
            ),
        ]
        for each in bins
        if each.n
    ]
    return Table(header, rows)


def half_limits(rows: pa.Table, bands: Sequence[str]) -> str:
    """Return in words at which magnitudes half of the sources are found."""
    limits = half_complete(rows, bands)
    told = ", ".join(f"{band} = {limit:.2f}" for band, limit in limits.items())
    return f"Half of them are found at {told}." if told else ""


@page_style()
def completeness_figure(bins: Sequence[InjectedBin], bands: Sequence[str]) -> bytes:
    """Draw completeness, flux bias and pull width by true magnitude."""
    filled = [each for each in bins if each.n]
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    complete, bias, pull = figure.subplots(1, 3, sharex=True)
    x = np.array([(each.low + each.high) / 2 for each in filled])
    rate, error = np.transpose([(e.completeness, e.completeness_err) for e in filled])
    within = np.minimum(error, [rate, 1 - rate])
    complete.errorbar(x, rate, within, fmt="o-", ms=3.5, lw=1, color=MARK)
    complete.set(ylim=(-0.03, 1.05), ylabel="completeness")
    known = np.array([each.n for each in filled]) >= FEW
    for band, color, marker in zip(bands, cycle(BANDS), cycle(MARKERS), strict=False):
        style = {"ms": 3.5, "lw": 1, "color": color, "marker": marker, "label": band}
        bias.plot(x, np.where(known, [each.bands[band].bias for each in filled], np.nan), **style)
        width, width_err = np.transpose(
            [(each.bands[band].pull_width, each.bands[band].pull_width_err) for each in filled]
        )
        pull.errorbar(x, np.where(known, width, np.nan), width_err, **style)
    _line(bias, 0.0, "median of F / F_true − 1")
    _line(pull, 1.0, "width of (F − F_true) / error")
    for axes in (complete, bias, pull):
        axes.set_xlabel("true i (or last band) / AB mag")
    legend_above(bias, len(bands))
    return to_png(figure)


def _line(axes: Axes, right: float, label: str) -> None:
    """Draw what the value should be, and name it."""
    axes.axhline(right, color=FAINT, lw=1, ls="--")
    axes.set_ylabel(label)
