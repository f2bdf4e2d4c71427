"""Figure of a flow's samples: what HSC's image leaves possible, and what HST sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from matplotlib.figure import Figure

from raydeblend.deblend.srgan.srflow import SampledView, SrflowDeblender
from raydeblend.evaluate.common.figures import DPI, to_png
from raydeblend.evaluate.hemmati2022.figures import PANEL, finish, show
from raydeblend.evaluate.hemmati2022.scores import Example, NetworkFinder
from raydeblend.instruments import FACTOR
from raydeblend.simulate.sharp_blends import reference_band

SHOWN = 4
"""Samples of each blend."""


def samples_figure(network: SrflowDeblender, examples: Sequence[Example]) -> bytes:
    """Draw HST's and HSC's image, samples with their peaks, their mean and their spread; PNG."""
    titles = ("HST", "HSC", *(f"sample {i + 1}" for i in range(SHOWN)), "mean", "spread")
    size = (PANEL * len(titles), PANEL * len(examples) + 0.3)
    figure = Figure(figsize=size, dpi=DPI)
    grid = figure.subplots(len(examples), len(titles), squeeze=False)
    finder = NetworkFinder(network)
    for row, example in zip(grid, examples, strict=True):
        _draw_row(row, example, cast(SampledView, finder.look(example.blend)[1]))
    finish(figure, grid, titles)
    return to_png(figure)


def _draw_row(row: np.ndarray, example: Example, view: SampledView) -> None:
    band = reference_band(example.blend.bands)
    show(row[0], example.blend.high[0, band])
    row[0].plot(*example.blend.xy[0].T, "+", color="tab:red", ms=8, mew=1.4)
    show(row[1], example.blend.low[0, band], FACTOR**2)
    drawn = zip(row[2 : 2 + SHOWN], view.samples[:SHOWN, 0], view.peaks[0], strict=False)
    for axes, sample, peaks in drawn:
        show(axes, sample)
        axes.plot(*peaks.T, "o", mfc="none", mec="tab:red", ms=6, mew=1.1)
    show(row[-2], view.sharp[0])
    show(row[-1], view.spread[0])
    row[-2].set_xlabel(f"P(more than one) = {view.p_blend[0]:.2f}", fontsize=7, labelpad=2)
