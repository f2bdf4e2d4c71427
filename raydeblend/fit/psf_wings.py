"""A PSF stamp as a sum of Gaussians that follows its wings, for bright galaxies' neighbors.

`psf.fit_psf` weighs all pixels alike, so that the wings, at a thousandth of the peak, do not
matter; far from a bright galaxy they are most of what a faint one lies on.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raydeblend.fit.least_squares import minimize
from raydeblend.fit.psf import KEPT, PsfMixture, normalized
from raydeblend.tile import BoolArray

Array = NDArray[np.float64]

# Starting widths, in units of the width that the peak implies, and weights.
_WIDTHS = (0.85, 1.3, 2.5, 6.0)
_WEIGHTS = (0.5, 0.35, 0.1, 0.05)
# Residuals are divided by the root of the image plus this part of its peak, as if of photons.
_SOFTENING = 0.01
MOST_STEPS = 60
# Narrowest Gaussian, in pixels: no PSF that is sampled at all is narrower.
_NARROWEST = 0.3


def fit_wings(stamp: ArrayLike) -> PsfMixture:
    """Fit a PSF stamp with four elliptical Gaussians of common, free center, narrowest first.

    The center is dropped: a model is placed where the image wants it.  The stamp is taken to have
    unit flux; the mixture then has a little more, the light of the wings beyond the stamp.

    Parameters
    ----------
    stamp
        ``(py, px)``, any size; the pixel's own width is part of the PSF.

    Raises
    ------
    TileError
        If the stamp has no positive, finite sum.
    """
    image = normalized(stamp)
    return _fitted(image.tobytes(), image.shape)


@lru_cache(maxsize=KEPT)
def _fitted(pixels: bytes, shape: tuple[int, int]) -> PsfMixture:
    """Return the mixture of a PSF of unit flux, which the cells and calls of a field share."""
    image = np.frombuffer(pixels).reshape(shape)
    y, x = np.indices(image.shape).reshape(2, -1).astype(float)
    data = image.ravel()
    scale = 1 / np.sqrt(np.abs(data) + _SOFTENING * data.max())

    def residuals(q: Array) -> tuple[Array, Array]:
        light, slopes = _model(q, x, y)
        return scale * (light - data), scale * slopes.T

    weights, _, (a, b, c) = _unpack(minimize(residuals, _start(image), MOST_STEPS))
    factor = np.zeros((len(weights), 2, 2))
    factor[:, 0, 0], factor[:, 1, 0], factor[:, 1, 1] = a, b, c
    narrowest_first = np.argsort(a * c)
    return PsfMixture(
        weights[narrowest_first], (factor @ factor.transpose(0, 2, 1))[narrowest_first]
    )


def _start(image: Array) -> Array:
    # The width of a Gaussian of the same peak and flux: robust to wings, unlike moments.
    width = 1 / np.sqrt(2 * np.pi * image.max())
    peak_y, peak_x = np.unravel_index(np.argmax(image), image.shape)
    widths = np.log(width * np.array(_WIDTHS))
    shapes = np.stack([widths, np.zeros(len(widths)), widths], 1)
    return np.concatenate([[peak_x, peak_y], np.log(_WEIGHTS), shapes.ravel()])


def _unpack(q: Array) -> tuple[Array, Array, tuple[Array, Array, Array]]:
    """Return weights ``(k,)``, the center and the Cholesky factors [[a, 0], [b, c]]."""
    k = len(_WEIGHTS)
    a, b, c = q[k + 2 :].reshape(k, 3).T
    low = np.log(_NARROWEST)
    factors = np.exp(np.clip(a, low, 5)), np.clip(b, -50, 50), np.exp(np.clip(c, low, 5))
    return np.exp(np.clip(q[2 : k + 2], -30, 2)), q[:2], factors


def _model(q: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Return the mixture ``(p,)`` at the pixels and its derivatives ``(p, len(q))``.

    With z = L⁻¹ d, L the Cholesky factor, a Gaussian is exp(−|z|²/2) / (2π a c).
    """
    weights, center, (a, b, c) = _unpack(q)
    a, b, c = a[:, None], b[:, None], c[:, None]
    z1 = (x - center[0]) / a
    z2 = (y - center[1] - b * z1) / c
    light = weights[:, None] / (2 * np.pi * a * c) * np.exp(-0.5 * (z1**2 + z2**2))
    slant = z2 / c
    by_center = (light * (z1 - b * slant) / a).sum(0), (light * slant).sum(0)
    shapes = np.stack([z1**2 - b * z1 * slant - 1, z1 * slant, z2**2 - 1], 1)
    by_shape = (light[:, None] * shapes).reshape(-1, len(x))
    slopes = np.concatenate([by_center, light, by_shape])
    # What is clipped does not follow.
    slopes[2:] *= _is_free(q)[:, None]
    return np.asarray(light.sum(0)), slopes.T


def _is_free(q: Array) -> BoolArray:
    """Tell which logarithms of weights and which shapes are within the limits of `_unpack`."""
    k = len(_WEIGHTS)
    shapes = q[k + 2 :].reshape(k, 3)
    low = np.log(_NARROWEST)
    least, most = np.array([low, -50, low]), np.array([5.0, 50.0, 5.0])
    inside = ((shapes >= least) & (shapes <= most)).ravel()
    return np.concatenate([(q[2 : k + 2] >= -30) & (q[2 : k + 2] <= 2), inside])
