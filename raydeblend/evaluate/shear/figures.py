"""Figure of the protocol `shear`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from raydeblend.evaluate.common.figures import DPI, to_png
from raydeblend.evaluate.common.rows import Row

_LINES = {"m_raw": "without R", "m": "with R"}


def bias_figure(rows: Sequence[Row]) -> bytes:
    """Draw m by magnitude, separation and kind, with and without the responses."""
    kinds = list(dict.fromkeys((str(r["n_galaxies"]), str(r["deblender"])) for r in rows))
    figure = Figure(figsize=(4.8 * len(kinds), 3.6), dpi=DPI, layout="constrained")
    grid = figure.subplots(1, len(kinds), squeeze=False)
    for axes, (objects, deblender) in zip(grid[0], kinds, strict=True):
        own = [r for r in rows if (r["n_galaxies"], r["deblender"]) == (objects, deblender)]
        for i, (key, label) in enumerate(_LINES.items()):
            value, low, high = (
                np.array([row[f"{key}{end}"] for row in own], dtype=np.float64)
                for end in ("", "_low", "_high")
            )
            bars = np.nan_to_num([value - low, high - value]).clip(0)
            x = np.arange(len(own)) + 0.15 * (i - 0.5)
            axes.errorbar(x, value, bars, fmt="o", ms=3.5, capsize=2, lw=1, label=label)
        axes.axhline(0, color="0.6", lw=0.8, zorder=0)
        axes.axhspan(-0.01, 0.01, color="0.92", zorder=-1)
        axes.set_xticks(np.arange(len(own)), [str(r["galaxy"]) for r in own], rotation=60, size=7)
        axes.set_title(f"{objects}, {deblender}", fontsize=9)
    grid[0, 0].set_ylabel("multiplicative bias m")
    grid[0, 0].legend(fontsize=8, frameon=False)
    return to_png(
        figure,
        "Multiplicative bias of the mean shape against a known shear, with and without the "
        "responses of the catalog; the band is 1 %. 95 % intervals.",
    )
