"""The model of some sources at given shapes: fluxes, objective and normal equations.

The flux of each source in each band is linear and solved exactly, and so projected out of all the
rest (Golub & Pereyra 1973; Kaufman's form of the Jacobian).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.cache import part
from raydeblend.fit.compiled.galaxy import (
    Brush,
    Family,
    draw_galaxy,
    make_brush,
    shape_covariance,
)
from raydeblend.fit.compiled.gaussians import offsets
from raydeblend.fit.compiled.linear import invert, solve, weighted_square
from raydeblend.fit.compiled.products import CHUNK, TALL, gram

Array = NDArray[np.float64]
FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

_ROOM = 1e-6
"""Least 1 − |g|² of a shape within the priors' domain."""


class Pixels(NamedTuple):
    """Pixels of K sources, filled up to whole blocks with such of weight 0.

    Attributes
    ----------
    data, weight
        ``(b, p)`` in units of the band's noise.
    x, y
        ``(p,)``.
    start
        ``(K, 2)`` expected positions, from which theta counts.
    measured
        ``(b, K)``: which fluxes to fit.
    """

    data: FloatArray
    weight: FloatArray
    x: FloatArray
    y: FloatArray
    start: Array
    measured: BoolArray


class Work(NamedTuple):
    """Working memory; `rows` are residual, images and derivatives of all sources in one band."""

    brush: Brush
    rows: FloatArray
    products: Array
    left: FloatArray
    matrix: Array


class Model(NamedTuple):
    """The model at theta.

    Attributes
    ----------
    theta
        ``(K, q)``.
    flux
        ``(b, K)``.
    normal
        ``(b, K, K)`` of the fluxes.
    cross
        ``(b, K, K q)`` derivative of the fluxes by theta.
    value
        ``(2,)``: objective, χ²/2 − ln prior, infinite outside the priors' domain; and χ².
    gradient, curvature
        ``(K q,)`` and ``(K q, K q)``.
    """

    theta: Array
    flux: Array
    normal: Array
    cross: Array
    value: Array
    gradient: Array
    curvature: Array


@part()
def make_work(family: Family, pixels: Pixels) -> Work:
    """Return memory for the fit of these pixels."""
    k, p = len(pixels.start), len(pixels.x)
    rows = 1 + k + k * len(family.mean)
    return Work(
        make_brush(family, p),
        np.empty((rows, p), dtype=np.float32),
        np.empty((rows, rows)),
        np.empty((TALL, CHUNK), dtype=np.float32),
        np.empty((k, k)),
    )


@part()
def make_model(family: Family, pixels: Pixels) -> Model:
    """Return memory for the model of these pixels."""
    (k, bands), q = (len(pixels.start), len(pixels.data)), len(family.mean)
    return Model(
        np.zeros((k, q)),
        np.zeros((bands, k)),
        np.zeros((bands, k, k)),
        np.zeros((bands, k, k * q)),
        np.zeros(2),
        np.zeros(k * q),
        np.zeros((k * q, k * q)),
    )


@part()
def evaluate(family: Family, pixels: Pixels, ridge: float, work: Work, model: Model) -> None:
    """Fill the model at its theta.

    `ridge`, a part of each image's own norm, keeps equal images from sharing no light at all.
    """
    penalty = _weigh_prior(family, model)
    model.value[0] = model.value[1] = np.inf
    if not np.isfinite(penalty):
        return
    chi2 = 0.0
    for band in range(len(pixels.data)):
        draw_band(family, pixels, model, band, work)
        chi2 += _fit_band(pixels, ridge, band, work, model)
    objective = 0.5 * chi2 + penalty
    model.value[0] = np.inf if np.isnan(objective) else objective
    model.value[1] = chi2


@part()
def _weigh_prior(family: Family, model: Model) -> float:
    """Return −ln p, and begin gradient and curvature with its own; infinite for |g| >= 1.

    Gaussian, and of shapes p(g) ∝ (1 − g²)² exp(−g²/2σ²) (Bernstein & Armstrong 2014, eq. 24).
    """
    k, q = model.theta.shape
    for i in range(k * q):
        for j in range(k * q):
            model.curvature[i, j] = 0
    total = 0.0
    for source in range(k):
        theta, first = model.theta[source], source * q
        room = 1 - theta[2] ** 2 - theta[3] ** 2
        if not room > _ROOM:
            return np.inf
        total -= 2 * np.log(room)
        for i in range(q):
            off, own = theta[i] - family.mean[i], family.precision[i]
            total += 0.5 * own * off * off
            own += 4 / room if i in (2, 3) else 0.0
            model.gradient[first + i] = own * off
            model.curvature[first + i, first + i] += own
        for i in (2, 3):
            for j in (2, 3):
                model.curvature[first + i, first + j] += 8 * theta[i] * theta[j] / room**2
    return total


@part()
def draw_band(family: Family, pixels: Pixels, model: Model, band: int, work: Work) -> None:
    """Draw all sources in one band, with their derivatives."""
    k, q = model.theta.shape
    center, brush = np.empty(2), work.brush
    for n in range(len(pixels.x)):
        work.rows[0, n] = pixels.data[band, n]
    for source in range(k):
        theta, first = model.theta[source], 1 + k + q * source
        image, slopes = work.rows[1 + source], work.rows[first : first + q]
        if not pixels.measured[band, source]:
            image[:] = 0
            slopes[:] = 0
            continue
        for i in range(2):
            center[i] = pixels.start[source, i] + theta[i]
        # In each band anew: of many sources the offsets would take more memory than time.
        shape_covariance(theta, family.pixel_scale, brush.cov, brush.by_shape)
        offsets(pixels.x, pixels.y, center, brush.dx, brush.dy, brush.nearest)
        draw_galaxy(family, theta, band, brush, image, slopes)


@part()
def _fit_band(pixels: Pixels, ridge: float, band: int, work: Work, model: Model) -> float:
    """Solve the fluxes of one band, add its normal equations and return its χ²."""
    rows, products, weight = work.rows, work.products, pixels.weight[band]
    k, q = model.theta.shape
    for last in (1 + k, len(rows)):
        # First of data and images, then of what is left of the data and all rows.
        gram(rows, weight, 0, last, work.left, products)
        if last == 1 + k:
            _solve_fluxes(ridge, band, work, model)
            for i in range(k):
                own = np.float32(model.flux[band, i])
                for n in range(len(weight)):
                    rows[0, n] -= own * rows[1 + i, n]
    flux, normal = model.flux[band], model.normal[band]
    cross = model.cross[band]
    for j in range(k * q):
        for i in range(k):
            cross[i, j] = -products[1 + i, 1 + k + j] * flux[j // q]
    _solve_with(normal, work.matrix, cross)
    for i in range(k * q):
        row, own = 1 + k + i, flux[i // q]
        model.gradient[i] -= own * products[row, 0]
        for j in range(k * q):
            inner = own * products[row, 1 + k + j] * flux[j // q]
            for n in range(k):
                inner += own * products[row, 1 + n] * cross[n, j]
            model.curvature[i, j] += inner
    return weighted_square(rows[0], weight)


@part()
def _solve_fluxes(ridge: float, band: int, work: Work, model: Model) -> None:
    """Solve the fluxes of one band from the products of data and images."""
    flux, normal, products = model.flux[band], model.normal[band], work.products
    k = len(flux)
    for i in range(k):
        flux[i] = products[1 + i, 0]
        for j in range(k):
            normal[i, j] = products[1 + i, 1 + j]
        normal[i, i] = normal[i, i] * (1 + ridge) if normal[i, i] > 0 else 1.0
    _solve_with(normal, work.matrix, flux.reshape(k, 1))


@part()
def _solve_with(matrix: Array, spare: Array, right: Array) -> None:
    """Solve, right overwritten, with a copy of the matrix."""
    for i in range(len(matrix)):
        for j in range(len(matrix)):
            spare[i, j] = matrix[i, j]
    solve(spare, right)


@part()
def damped_step(model: Model, damping: float, step: Array) -> float:
    """Write a damped Gauss–Newton step ``(K q, 1)``; return the fall that it promises.

    Of what is singular the step is 0.
    """
    matrix = model.curvature.copy()
    for i in range(len(step)):
        matrix[i, i] *= 1 + damping
        step[i, 0] = -model.gradient[i]
    if not solve(matrix, step):
        step[:] = 0
    gain = 0.0
    for i in range(len(step)):
        gain -= 0.5 * step[i, 0] * model.gradient[i]
    return gain


@part()
def move(model: Model, step: Array, out: Array) -> None:
    """Write theta after a step."""
    k, q = model.theta.shape
    for source in range(k):
        for i in range(q):
            out[source, i] = model.theta[source, i] + step[source * q + i, 0]


@part()
def write_covariances(model: Model, theta_cov: Array, flux_cov: Array) -> None:
    """Write covariances ``(K, q, q)`` and, of fluxes between bands, ``(b, b, K)``.

    From the inverse curvature of the whole problem: Cov(flux) = Cov(flux at fixed theta) +
    cross Cov(theta) crossᵀ; at fixed theta bands do not know of each other.
    """
    bands, k, free = model.cross.shape
    q = free // k
    covariance, fixed = np.empty((free, free)), np.empty((k, k))
    follow = np.empty(free)
    invert(model.curvature.copy(), covariance)
    for source in range(k):
        for i in range(q):
            for j in range(q):
                theta_cov[source, i, j] = covariance[q * source + i, q * source + j]
    for band in range(bands):
        invert(model.normal[band].copy(), fixed)
        for source in range(k):
            for j in range(free):
                follow[j] = 0
                for i in range(free):
                    follow[j] += model.cross[band, source, i] * covariance[i, j]
            for other in range(bands):
                shared = fixed[source, source] if other == band else 0.0
                for j in range(free):
                    shared += follow[j] * model.cross[other, source, j]
                flux_cov[band, other, source] = shared
