"""Images in several bands as pictures in color, and the figure of a deblender's result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL = 1.6
"""Side of a panel in inches."""


def color_image(image: NDArray[np.floating], sigma: float = 1.0) -> NDArray[np.uint8]:
    """Return an RGB picture ``(y, x, 3)`` after Lupton et al. (2004).

    Parameters
    ----------
    image
        ``(bands, y, x)``, bluest band first; the last, middle and first are shown as red,
        green and blue.
    sigma
        Noise of the image, which sets the stretch.
    """
    from astropy.visualization import make_lupton_rgb

    # Linear to a few sigma, so that the sky is dark gray and faint wings show.
    minimum = -1.5 * sigma
    # Just above it, since astropy divides by the intensity.
    red, green, blue = (np.maximum(image[i], 0.999 * minimum) for i in (-1, len(image) // 2, 0))
    picture = make_lupton_rgb(red, green, blue, minimum=minimum, stretch=6 * sigma, Q=8)
    return np.asarray(picture, dtype=np.uint8)


def noise_level(image: NDArray[np.floating]) -> float:
    """Noise of an image from its pixels below the median, where there are few sources."""
    below = image[image < np.median(image)]
    return float(1.4826 * np.median(np.median(image) - below)) if below.size else 1.0


def models_figure(
    images: NDArray[np.floating] | None,
    models: NDArray[np.floating],
    xy: NDArray[np.floating],
    titles: Sequence[str],
    most: int,
) -> Figure:
    """Draw a row for each stamp: image and residual, where given, all models, and each alone.

    Parameters
    ----------
    images
        ``(n, bands, y, x)``.
    models
        ``(n, k, bands, y, x)``, zero where there is no k-th source.
    xy
        ``(n, k, 2)``, NaN there.
    titles
        Label of each row.
    most
        Models that are drawn alone.
    """
    from raydeblend.notebook_figure import NotebookFigure

    n, k = len(models), min(most, models.shape[1])
    names = ["models", *(f"source {i + 1}" for i in range(k))]
    names = names if images is None else ["image", "residual", *names]
    figure = NotebookFigure(figsize=(PANEL * len(names), (PANEL + 0.35) * n), layout="constrained")
    grid = figure.subplots(n, len(names), squeeze=False)
    for row in range(n):
        whole = models[row].sum(axis=0)
        panels = [whole, *models[row, :k]]
        if images is not None:
            panels = [images[row], images[row] - whole, *panels]
        # One stretch for all that is compared: that of the noise, or else of the models.
        sigma = noise_level(panels[0]) if images is not None else float(np.abs(whole).max()) / 50
        for axes, panel, name in zip(grid[row], panels, names, strict=True):
            axes.imshow(color_image(panel, sigma or 1.0), origin="lower", interpolation="nearest")
            axes.set(xticks=[], yticks=[], xlim=(-0.5, panel.shape[-1] - 0.5))
            axes.set(ylim=(-0.5, panel.shape[-2] - 0.5))
            axes.set_title(name, fontsize=8, pad=3)
        grid[row][0].plot(*xy[row].T, "+", color="white", ms=6, mew=1)
        grid[row][0].set_ylabel(titles[row], fontsize=8)
    return figure
