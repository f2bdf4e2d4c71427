"""The first blends of a test set, deblended and true (Wang et al. 2022, Figs. 3 to 5)."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from raydeblend.evaluate.common.blends import Blends
from raydeblend.evaluate.common.figures import DPI, PANEL, show, to_png
from raydeblend.evaluate.wang2022.scores import Scores
from raydeblend.tile import FloatArray


def gallery_figure(blends: Blends, scores: Scores) -> bytes:
    """Draw the first blends: blended, each galaxy deblended and true, and the residual.

    Parameters
    ----------
    blends
        The blends that `scores.models` belong to.
    """
    k = blends.n_galaxies
    columns = 2 + 2 * k
    figure = Figure(figsize=(PANEL * columns, PANEL * len(blends) + 0.35), dpi=DPI)
    grid = figure.subplots(len(blends), columns, squeeze=False)
    for row, image, models, truth in zip(
        grid, blends.images, scores.models, blends.isolated, strict=True
    ):
        _gallery_row(row, image, models, truth)
    for axes, title in zip(grid[0], _gallery_titles(k), strict=True):
        axes.set_title(title, fontsize=8, pad=3)
    figure.suptitle(f"{scores.deblender}, blends of {k}", fontsize=9, y=0.995)
    figure.tight_layout(pad=0.3, rect=(0, 0, 1, 0.99))
    caption = (
        f"The first blends of {k} galaxies: the noisy image, each galaxy as {scores.deblender} "
        "deblends it beside its truth, and what is left (Wang et al. 2022, Figs. 3 to 5)."
    )
    return to_png(figure, caption)


def _gallery_row(
    row: NDArray[np.object_], image: FloatArray, models: FloatArray, truth: FloatArray
) -> None:
    pairs = [pair for both in zip(models, truth, strict=True) for pair in both]
    panels = [image, *pairs, image - models.sum(axis=0)]
    for axes, panel in zip(row, panels, strict=True):
        show(axes, panel)


def _gallery_titles(k: int) -> list[str]:
    names = [f"{kind} {i + 1}" for i in range(k) for kind in ("deblended", "truth")]
    return ["blended", *names, "residual"]
