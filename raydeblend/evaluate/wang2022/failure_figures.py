"""Galleries of the blends where one deblender fails (Wang et al. 2022, Figs. 13 and 14)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from raydeblend.evaluate.common.blends import Blends, BlendSet
from raydeblend.evaluate.common.figures import DPI, PANEL, show, to_png
from raydeblend.evaluate.wang2022.failures import examples, find_failures
from raydeblend.evaluate.wang2022.scores import Scores, deblend
from raydeblend.tile import Deblended, Deblender

MAX_MODELS = 4
"""Shown of one blend, the brightest."""


@dataclass(frozen=True)
class _Example:
    """One row of the gallery."""

    blend: int
    label: str
    mine: Deblended
    other: Deblended


def failure_figure(
    deblender: Deblender, baseline: Deblender, scores: Scores, other: Scores, data: BlendSet
) -> bytes | None:
    """Draw blends that only one of two deblenders gets right; None where there are none.

    Parameters
    ----------
    scores, other
        Of `deblender` and of `baseline` on the same blends.
    """
    blends = next(part for part in data.blends if part.n_galaxies == scores.n_galaxies)
    fails, rescues = examples(scores, other)
    chosen = [
        *(_example(row, scores, f"{scores.deblender}:", deblender, baseline, blends, data)
          for row in fails),
        *(_example(row, other, f"{other.deblender}:", deblender, baseline, blends, data)
          for row in rescues),
    ]  # fmt: skip
    return _draw(chosen, blends, scores.deblender, other.deblender) if chosen else None


def _example(
    row: int,
    failed: Scores,
    who: str,
    deblender: Deblender,
    baseline: Deblender,
    blends: Blends,
    data: BlendSet,
) -> _Example:
    one = blends[row : row + 1]
    label = f"{who}\n" + find_failures(failed).label(row).replace(", ", "\n")
    return _Example(row, label, deblend(deblender, one, data), deblend(baseline, one, data))


def _draw(chosen: Sequence[_Example], blends: Blends, name: str, other: str) -> bytes:
    k = blends.n_galaxies
    most = max(int(example.mine.n_sources[0]) for example in chosen)
    shown = min(max(most, 1), MAX_MODELS)
    titles = ["blend, true positions", *(f"{name} {i + 1}" for i in range(shown)), f"{other}"]
    size = (PANEL * len(titles) + 0.7, PANEL * len(chosen) + 0.3)
    figure = Figure(figsize=size, dpi=DPI)
    grid = figure.subplots(len(chosen), len(titles), squeeze=False)
    for line, example in zip(grid, chosen, strict=True):
        _draw_row(line, example, blends, shown)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=7, pad=3)
    figure.tight_layout(pad=0.3)
    caption = (
        f"Blends of {k} that only one of {name} and {other} gets right (Wang et al. 2022, Figs. 13 "
        f"and 14): the blend with the true positions (white), the models of {name}, and the blend "
        f"with the positions of {other} (red). The label says who fails and how; equally bright: "
        "fluxes within a factor of 1.25."
    )
    return to_png(figure, caption)


def _draw_row(line: NDArray[np.object_], example: _Example, blends: Blends, shown: int) -> None:
    image = blends.images[example.blend]
    show(line[0], image)
    line[0].scatter(*blends.xy[example.blend].T, marker="+", s=30, color="white", lw=0.8)
    line[0].set_ylabel(example.label, fontsize=6.5, rotation=0, ha="right", va="center")
    count = int(example.mine.n_sources[0])
    for i, axes in enumerate(line[1:-1]):
        if i < min(count, shown):
            show(axes, example.mine.models[0, i])
        else:
            axes.axis("off")
    show(line[-1], image)
    found = example.other.xy[0, : int(example.other.n_sources[0])]
    line[-1].scatter(found[:, 0], found[:, 1], marker="o", s=40, facecolors="none",
                     edgecolors="red", lw=1)  # fmt: skip
