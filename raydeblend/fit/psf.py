"""A PSF stamp as a normalized sum of Gaussians, by least squares.

Least squares rather than EM: real PSF stamps have negative wings, on which EM fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares
from threadpoolctl import threadpool_limits

from raydeblend.errors import TileError

Array = NDArray[np.float64]

KEPT = 1024
"""PSFs whose mixtures are kept in memory, 14 kB each: those of a cell and its neighbors, of which a
survey may have some eighty in each band."""
# Starting widths in units of the width that the peak implies, and weights: a core and wings.
_START_WIDTHS = (0.9, 1.6, 3.5)
_START_WEIGHTS = (0.65, 0.28, 0.07)


@dataclass(frozen=True)
class PsfMixture:
    """A PSF of unit flux.

    Attributes
    ----------
    weights
        ``(k,)``, positive, sum 1.
    covariances
        ``(k, 2, 2)`` in pixels², axes (x, y).
    """

    weights: Array
    covariances: Array


POINT = PsfMixture(np.ones(1), np.eye(2)[None])
"""Stands in for the PSF of a band that is not measured."""


def fit_psf(stamp: ArrayLike, components: int = 3) -> PsfMixture:
    """Fit a PSF stamp with `components` (1 to 3) elliptical Gaussians of common, free center.

    The center is dropped: a model is placed where the image wants it.  Weights sum to 1 by
    construction, since a mixture normalized after the fit would give every flux the relative
    error of the light that the fit missed in the wings.

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
    return _fitted(image.tobytes(), image.shape, components)


@lru_cache(maxsize=KEPT)
def _fitted(pixels: bytes, shape: tuple[int, int], components: int) -> PsfMixture:
    """Return the mixture of a PSF of unit flux, which the cells and calls of a field share."""
    image = np.frombuffer(pixels).reshape(shape)
    start, sigma = _start(image, components)
    y, x = np.indices(image.shape).reshape(2, -1).astype(float)
    # In units of the peak, since the solver stops at an absolute gradient.
    scale = 1 / image.max()
    with one_blas_thread():
        fit = least_squares(
            lambda q: scale * (_model(q, x, y)[0] - image.ravel()),
            start,
            jac=lambda q: scale * _model(q, x, y)[1],
            method="trf",
            x_scale="jac",
            max_nfev=60,
        )
    weights, _, covariances = _unpack(fit.x, components)
    if not (np.all(np.isfinite(covariances)) and np.linalg.det(covariances).min() > 1e-4):
        return PsfMixture(np.ones(1), sigma**2 * np.eye(2)[None])
    return PsfMixture(weights, covariances)


def one_blas_thread() -> threadpool_limits:
    """Keep BLAS to one thread: in systems of so few unknowns more only wait for each other."""
    return threadpool_limits(limits=1, user_api="blas")


def stack_mixtures(psf: Sequence[PsfMixture]) -> tuple[Array, Array]:
    """Return weights ``(b, c)`` and covariances ``(b, c, 3)`` (xx, xy, yy) of b PSFs.

    To those of fewer Gaussians than others such of weight 0 are added.
    """
    most = max(len(mixture.weights) for mixture in psf)
    weight = np.zeros((len(psf), most))
    cov = np.tile([1.0, 0.0, 1.0], (*weight.shape, 1))
    for b, mixture in enumerate(psf):
        k, c = len(mixture.weights), mixture.covariances
        weight[b, :k] = mixture.weights
        cov[b, :k] = np.stack([c[:, 0, 0], c[:, 0, 1], c[:, 1, 1]], 1)
    return weight, cov


def stack_places(psf: Sequence[Sequence[PsfMixture]]) -> tuple[Array, Array]:
    """Return weights ``(b, m, c)`` and covariances ``(b, m, c, 3)`` of the PSFs of each band.

    A band with fewer than others has its first ones again.
    """
    most = max(map(len, psf))
    filled = [[*each, *[each[0]] * (most - len(each))] for each in psf]
    weight, cov = stack_mixtures([mixture for each in filled for mixture in each])
    return weight.reshape(len(psf), most, -1), cov.reshape(len(psf), most, -1, 3)


def normalized(stamp: ArrayLike) -> Array:
    """Return a PSF stamp of unit flux.

    Raises
    ------
    TileError
        If it is not a 2-d image of finite pixels with a positive sum.
    """
    image = np.asarray(stamp, dtype=float)
    total = image.sum() if image.ndim == 2 else np.nan
    if not (np.isfinite(total) and total > 0 and image.max() > 0):
        raise TileError("the PSF stamp is not a 2-d image of finite pixels with a positive sum")
    return image / total


def _start(image: Array, components: int) -> tuple[Array, float]:
    # The width of a Gaussian of the same peak and flux: robust to wings, unlike moments.
    sigma = float(1 / np.sqrt(2 * np.pi * image.max()))
    peak_y, peak_x = np.unravel_index(np.argmax(image), image.shape)
    widths = np.log(sigma * np.array(_START_WIDTHS[:components]))
    weights = np.log(np.array(_START_WEIGHTS[:components]))
    shapes = np.stack([widths, np.zeros(components), widths], axis=1).ravel()
    return np.concatenate([[peak_x, peak_y], weights[1:] - weights[0], shapes]), sigma


def _clipped(q: Array, k: int) -> tuple[Array, Array]:
    """Return the weights ``(k,)`` and the (a, b, c) ``(3, k)`` of the Cholesky factors."""
    light = np.exp(np.clip(np.concatenate([[0.0], q[2 : k + 1]]), -30, 30))
    return light / light.sum(), np.clip(q[k + 1 :].reshape(k, 3).T, -10, 10)


def _unpack(q: Array, k: int) -> tuple[Array, Array, Array]:
    # Cholesky factors [[exp a, 0], [b, exp c]] keep every covariance positive definite.
    weights, (a, b, c) = _clipped(q, k)
    factor = np.zeros((k, 2, 2))
    factor[:, 0, 0], factor[:, 1, 0], factor[:, 1, 1] = np.exp(a), b, np.exp(c)
    return weights, q[:2], factor @ factor.transpose(0, 2, 1)


def _model(q: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """Return the mixture ``(p,)`` at the pixels and its derivatives ``(p, len(q))``.

    With z = L⁻¹ d, L the Cholesky factor, a Gaussian is exp(−|z|²/2) / (2π exp(a + c)).
    """
    k = len(q) // 4
    weights, (a, b, c) = _clipped(q, k)
    a, b, c = a[:, None], b[:, None], c[:, None]
    z1 = (x - q[0]) * np.exp(-a)
    z2 = (y - q[1] - b * z1) * np.exp(-c)
    unit = np.exp(-0.5 * (z1**2 + z2**2) - a - c) / (2 * np.pi)
    light = weights[:, None] * unit
    total = light.sum(0)
    slant = z2 * np.exp(-c)
    shapes = np.stack([z1**2 - b * z1 * slant - 1, z1 * slant, z2**2 - 1], 1)
    center = [(light * np.exp(-a) * (z1 - b * slant)).sum(0), (light * slant).sum(0)]
    amounts = weights[1:, None] * (unit[1:] - total)
    return total, np.concatenate([center, amounts, (light[:, None] * shapes).reshape(3 * k, -1)]).T
