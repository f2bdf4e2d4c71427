"""What one more source would gain, to first order, as `fit.score_test` tells (Rao 1948)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.blend import Blend
from raydeblend.fit.compiled.cache import SUMMED, entry, part
from raydeblend.fit.compiled.evaluation import (
    Work,
    draw_source,
    evaluate,
    make_state,
    make_work,
    normal_equations,
)
from raydeblend.fit.compiled.gaussians import power_of_two
from raydeblend.fit.compiled.linear import invert, solve
from raydeblend.fit.compiled.prior import PARAMETERS

Array = NDArray[np.float64]
FloatArray = NDArray[np.float32]

# Least norm of a source in a band, relative to the one that shows it best: a flux that a band can
# hardly tell must not decide whether their sum is positive.
_SHOWN = 0.01
# Relative to a template's norm: keeps what the fit can take over wholly from being a small
# number over another.
_RIDGE = 1e-3
_HALF = -0.5 * float(np.log2(np.e))
_LEAST_POWER = -43.0


@entry
def score_gains(blend: Blend, theta: Array, scale: Array, xy: Array, width: float) -> Array:
    """Return what ln L would gain by another source at each position, ``(m,)``.

    Parameters
    ----------
    theta
        ``(K, 9)``, a fit of the blend.
    scale
        ``(b, K)`` its fluxes, positive.
    xy
        ``(m, 2)``; each is asked for itself.
    width
        Standard deviation in pixels of the Gaussian that stands for the source in all bands; its
        fluxes are free, and their sum must be positive.
    """
    k, bands = len(theta), len(scale)
    work, state = make_work(blend), make_state(blend, k)
    for source in range(k):
        for i in range(PARAMETERS):
            state.theta[source, i] = theta[source, i]
        draw_source(blend, theta[source], source, work)
    evaluate(blend, work, scale, state)
    normal_equations(blend, work, np.arange(k), state)
    spread, flux_cov = np.empty_like(state.curvature), np.empty_like(state.free)
    invert(state.curvature, spread)
    for band in range(bands):
        invert(state.free[band], flux_cov[band])
    gains = np.zeros(len(xy))
    by_theta, pull = np.empty((bands, PARAMETERS * k)), np.empty(bands)
    left, norm = np.empty(bands), np.empty(bands)
    image = np.empty_like(work.dx)
    for m in range(len(xy)):
        _draw_point(blend, xy[m], width, image)
        for band in range(bands):
            pull[band], norm[band], left[band] = _projected(
                blend, work, band, image, flux_cov[band], state.cross[band], by_theta[band]
            )
        least = _SHOWN * norm.max()
        for band in range(bands):
            own = max(norm[band], least)
            left[band] = (1 + _RIDGE) * own - left[band] if norm[band] > 0 else 1.0
        gains[m] = _gain(by_theta, spread, left, pull)
    return gains


@part()
def _draw_point(blend: Blend, xy: Array, width: float, image: FloatArray) -> None:
    x, y = blend.samples.x, blend.samples.y
    factor = np.float32(_HALF / width**2)
    for n in range(len(image)):
        dx, dy = np.float32(x[n] - xy[0]), np.float32(y[n] - xy[1])
        image[n] = power_of_two(max(factor * (dx * dx + dy * dy), np.float32(_LEAST_POWER)))


@part(SUMMED)
def _dot(a: FloatArray, b: FloatArray) -> float:
    total = np.float32(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return float(total)


@part()
def _projected(
    blend: Blend,
    work: Work,
    band: int,
    image: FloatArray,
    flux_cov: Array,
    cross: Array,
    by_theta: Array,
) -> tuple[float, float, float]:
    """Return the residual's product with an image, its norm, and what of that the fluxes take.

    Writes its products with the derivatives by theta ``(9 K,)``, the fluxes following.
    """
    rows = work.rows[band]
    images, free = cross.shape
    weighted = np.empty_like(image)
    for n in range(len(image)):
        weighted[n] = image[n] * blend.samples.weight[band, n]
    by_flux = np.empty(images)
    for i in range(images):
        by_flux[i] = _dot(weighted, rows[1 + i])
    for j in range(free):
        by_theta[j] = _dot(weighted, rows[1 + images + j])
        for i in range(images):
            by_theta[j] += by_flux[i] * cross[i, j]
    taken = 0.0
    for i in range(images):
        for j in range(images):
            taken += by_flux[i] * flux_cov[i, j] * by_flux[j]
    return _dot(weighted, rows[0]), _dot(weighted, image), taken


@part()
def _gain(by_theta: Array, spread: Array, left: Array, pull: Array) -> float:
    """Return half of pullᵀ matrix⁻¹ pull, or 0 where the best fluxes are not positive."""
    bands, free = by_theta.shape
    matrix, flux, follow = np.zeros((bands, bands)), np.empty((bands, 1)), np.empty(free)
    for c in range(bands):
        for i in range(free):
            follow[i] = 0
            for j in range(free):
                follow[i] += spread[i, j] * by_theta[c, j]
        flux[c, 0] = pull[c]
        matrix[c, c] += left[c]
        for b in range(bands):
            for i in range(free):
                matrix[b, c] -= by_theta[b, i] * follow[i]
    solve(matrix, flux)
    gain = total = 0.0
    for b in range(bands):
        gain += 0.5 * flux[b, 0] * pull[b]
        total += flux[b, 0]
    return gain if total > 0 and gain > 0 and np.isfinite(gain) else 0.0
