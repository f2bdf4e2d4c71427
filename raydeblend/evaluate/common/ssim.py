"""Structural similarity from local moments: one pass for every choice of constants.

Wang et al. 2004, Eq. 13.  `raydeblend.evaluate.common.metrics.ssim` is what tables have; this is
for papers that do not say which windows, range and constants are theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, uniform_filter

Floats = NDArray[np.floating]

UNIFORM, GAUSSIAN = 7, 11
"""Widths of the windows in pixels: scikit-image's default, and that of Wang et al. 2004."""
GAUSSIAN_SIGMA = 1.5


@dataclass(frozen=True)
class LocalMoments:
    """Means, variances and covariance of two images in windows, ``(bands, y, x)`` each."""

    mean_x: Floats
    mean_y: Floats
    variance_x: Floats
    variance_y: Floats
    covariance: Floats

    def signed(self) -> LocalMoments:
        """Return those of images moved from [0, 1] to [-1, 1]."""
        means = (2 * mean - 1 for mean in (self.mean_x, self.mean_y))
        seconds = (4 * m for m in (self.variance_x, self.variance_y, self.covariance))
        return LocalMoments(*means, *seconds)

    def ssim(self, c1: float, c2: float) -> float:
        """Return the mean similarity over windows and bands."""
        x, y = self.mean_x, self.mean_y
        luminance = (2 * x * y + c1) / (x**2 + y**2 + c1)
        structure = (2 * self.covariance + c2) / (self.variance_x + self.variance_y + c2)
        return float(np.mean(luminance * structure))


def local_moments(model: Floats, truth: Floats, gaussian: bool = False) -> LocalMoments:
    """Return the moments of ``(bands, y, x)`` in all windows that are wholly inside.

    Windows are squares of `UNIFORM` pixels, with covariances of samples, or with `gaussian` of
    `GAUSSIAN` pixels, weighted.
    """
    width = GAUSSIAN if gaussian else UNIFORM
    edge = width // 2
    if gaussian:
        window = partial(gaussian_filter, sigma=GAUSSIAN_SIGMA, radius=edge, axes=(-2, -1))
    else:
        window = partial(uniform_filter, size=width, axes=(-2, -1))

    def mean(values: Floats) -> Floats:
        inside = (..., slice(edge, -edge), slice(edge, -edge))
        return np.asarray(window(values)[inside])

    x, y = (np.asarray(image, dtype=np.float64) for image in (model, truth))
    mean_x, mean_y = mean(x), mean(y)
    of_samples = 1.0 if gaussian else width**2 / (width**2 - 1)
    products = ((x * x, mean_x**2), (y * y, mean_y**2), (x * y, mean_x * mean_y))
    seconds = (of_samples * (mean(product) - square) for product, square in products)
    return LocalMoments(mean_x, mean_y, *seconds)
