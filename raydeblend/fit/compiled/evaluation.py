"""The model of a blend at given shapes: images, best fluxes, objective and normal equations.

In each band the fluxes of all disks and bulges are linear and solved exactly, none negative
(variable projection: Golub & Pereyra 1973), and the Jacobian of the rest is Kaufman's (1975): with
N the matrix of the fluxes' normal equations, S the derivatives of the model by theta and M its
images, the curvature is Sᵀ W S − Sᵀ W M N⁻¹ Mᵀ W S, and N⁻¹ Mᵀ W S how fluxes follow theta.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.blend import Blend
from raydeblend.fit.compiled.cache import part
from raydeblend.fit.compiled.gaussians import (
    BLOCK,
    COLUMNS,
    SLOPES,
    SUMS,
    all_sums,
    convolve,
    offsets,
    unit_covariances,
    weigh,
    within_reach,
    write_block,
)
from raydeblend.fit.compiled.linear import solve, solve_fluxes, weighted_square
from raydeblend.fit.compiled.prior import PARAMETERS, log_prior
from raydeblend.fit.compiled.products import CHUNK, TALL, gram

Array = NDArray[np.float64]
FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Indices = NDArray[np.int64]

RIDGE = 0.01
"""Fraction of a source's own curvature: with it, sources at one position share its first flux."""


class Work(NamedTuple):
    """Working memory for a blend, and what is drawn of it.

    Attributes
    ----------
    rows
        ``(b, 1 + 2 K + 9 K, p)``: data or residual, images of unit flux of disks and bulges, then
        derivatives by theta of the sources that move.
    slopes
        ``(b, K, 2, 6, p)`` derivatives of those images, see `gaussians.write_block`.
    products
        ``(b, 1 + 11 K, 1 + 11 K)`` weighted products of the rows.
    """

    rows: FloatArray
    slopes: FloatArray
    products: Array
    dx: FloatArray
    dy: FloatArray
    nearest: Array
    weights: Array
    table: FloatArray
    near: Indices
    sums: FloatArray
    left: FloatArray


class State(NamedTuple):
    """The model at theta: fluxes, objective and normal equations.

    Attributes
    ----------
    theta
        ``(K, 9)``, see `fit.bulge_disk`.
    flux
        ``(b, 2 K)``.
    prior
        ``(K,)`` −ln prior of each source; infinite outside the domain.
    value
        ``(2,)``: objective, χ²/2 − ln prior, and χ².
    gradient, curvature
        ``(9 m,)`` and ``(9 m, 9 m)`` of the m sources that move, the fluxes projected out.
    matrix, free
        ``(b, 2 K, 2 K)``, see `linear.solve_fluxes`.
    cross
        ``(b, 2 K, 9 m)`` derivative of the fluxes by theta.
    """

    theta: Array
    flux: Array
    prior: Array
    value: Array
    gradient: Array
    curvature: Array
    matrix: Array
    free: Array
    cross: Array


@part()
def make_work(blend: Blend) -> Work:
    """Return memory for a blend."""
    bands, p = blend.samples.data.shape
    k, g = len(blend.start), len(blend.mixture.variance)
    rows = 1 + 2 * k + PARAMETERS * k
    return Work(
        np.empty((bands, rows, p), dtype=np.float32),
        np.empty((bands, k, 2, SLOPES, p), dtype=np.float32),
        np.zeros((bands, rows, rows)),
        np.empty(p, dtype=np.float32),
        np.empty(p, dtype=np.float32),
        np.empty(p // BLOCK),
        np.empty((2, g)),
        np.empty((COLUMNS, g), dtype=np.float32),
        np.empty(g, dtype=np.int64),
        np.empty((SUMS, BLOCK), dtype=np.float32),
        np.empty((TALL, CHUNK), dtype=np.float32),
    )


@part()
def make_state(blend: Blend, moving: int) -> State:
    """Return memory for the model of a blend with that many free sources."""
    bands, k = len(blend.samples.data), len(blend.start)
    free = PARAMETERS * moving
    return State(
        np.zeros((k, PARAMETERS)),
        np.zeros((bands, 2 * k)),
        np.zeros(k),
        np.zeros(2),
        np.zeros(free),
        np.zeros((free, free)),
        np.zeros((bands, 2 * k, 2 * k)),
        np.zeros((bands, 2 * k, 2 * k)),
        np.zeros((bands, 2 * k, free)),
    )


@part()
def draw_source(blend: Blend, theta: Array, k: int, work: Work) -> None:
    """Draw disk and bulge of source k at theta ``(9,)`` with their derivatives, in all bands."""
    cov, by_shape = np.empty((2, 3)), np.empty((2, 3, 3))
    unit_covariances(theta, cov, by_shape)
    offsets(blend.samples.x, blend.samples.y, theta, work.dx, work.dy, work.nearest)
    weigh(blend.mixture, theta[8], work.weights)
    disk, all_of_them = blend.mixture.disk, len(blend.mixture.variance)
    for band in range(len(blend.samples.data)):
        convolve(blend.mixture, cov, work.weights, band, blend.place[band, k], work.table)
        for block in range(len(work.nearest)):
            at = slice(block * BLOCK, (block + 1) * BLOCK)
            dx, dy = work.dx[at], work.dy[at]
            for c in range(2):
                first, last = (0, disk) if c == 0 else (disk, all_of_them)
                count = within_reach(work.table, first, last, work.nearest[block], work.near)
                all_sums(dx, dy, work.table, work.near, count, work.sums)
                image, slopes = work.rows[band, 1 + 2 * k + c], work.slopes[band, k, c]
                write_block(work.sums, by_shape[c], block * BLOCK, image, slopes)


@part()
def weigh_images(blend: Blend, work: Work) -> None:
    """Take the products of all images, as drawn, with each other and the data."""
    last = 1 + 2 * len(blend.start)
    for band in range(len(work.rows)):
        for n in range(len(work.dx)):
            work.rows[band, 0, n] = blend.samples.data[band, n]
        gram(work.rows[band], blend.samples.weight[band], 0, last, work.left, work.products[band])


@part()
def flux_scale(blend: Blend, work: Work) -> Array:
    """Return positive total fluxes ``(b, K)`` if bulges have the expected fraction of the light."""
    bands, k = len(work.rows), len(blend.start)
    scale, own = np.empty((bands, k)), np.empty(k)
    shown = ~blend.hidden
    matrix, flux, bulge = np.empty((k, k)), np.empty((k, 1)), blend.prior.bulge
    for band in range(bands):
        products = work.products[band]
        for i in range(k):
            at = 1 + 2 * i
            flux[i, 0] = (1 - bulge) * products[at, 0] + bulge * products[at + 1, 0]
            for j in range(k):
                to = 1 + 2 * j
                disk_part = (1 - bulge) * products[at, to] + bulge * products[at, to + 1]
                bulge_part = (1 - bulge) * products[at + 1, to] + bulge * products[at + 1, to + 1]
                matrix[i, j] = (1 - bulge) * disk_part + bulge * bulge_part
            own[i] = matrix[i, i]
            matrix[i, i] += RIDGE * own[i] if own[i] > 0 else 1.0
        solve(matrix, flux)
        for i in range(k):
            # A band without usable pixels gets next to no light.
            least = 2 / np.sqrt(max(own[i], 1e-30)) if own[i] > 0 else 1e-6
            scale[band, i] = flux[i, 0] if flux[i, 0] > least else least
            shown[band, i] &= own[i] > 0
    _take_from_others(blend.hidden, shown, scale)
    return scale


@part()
def _take_from_others(hidden: BoolArray, shown: BoolArray, scale: Array) -> None:
    """Give sources that a band hides ``(b, K)`` the mean flux of the bands that show them."""
    for k in range(scale.shape[1]):
        total, count = 0.0, 0
        for band in range(len(scale)):
            if shown[band, k]:
                total, count = total + scale[band, k], count + 1
        for band in range(len(scale)):
            if hidden[band, k] and total > 0:
                scale[band, k] = total / count


@part()
def _expect_fluxes(hidden: BoolArray, scale: Array, matrix: Array, right: Array) -> None:
    """Add the prior N(scale, scale) on the fluxes ``(K,)`` that a band hides.

    A flux is the sum of its source's disk and bulge.
    """
    for k in range(len(scale)):
        if not hidden[k]:
            continue
        hold = 1 / scale[k]
        for i in range(2 * k, 2 * k + 2):
            right[i] += hold
            for j in range(2 * k, 2 * k + 2):
                matrix[i, j] += hold**2


@part()
def evaluate(blend: Blend, work: Work, scale: Array, state: State) -> None:
    """Solve the fluxes of what is drawn, and write objective and residuals.

    `scale` ``(b, K)`` is `flux_scale`, in whose units bulges scatter.
    """
    images, prior = 2 * len(blend.start), blend.prior
    weigh_images(blend, work)
    chi2 = 0.0
    for band in range(len(work.rows)):
        products, rows, flux = work.products[band], work.rows[band], state.flux[band]
        matrix, free = state.matrix[band], state.free[band]
        for i in range(images):
            flux[i] = products[1 + i, 0]
            for j in range(images):
                matrix[i, j] = products[1 + i, 1 + j]
        _expect_fluxes(blend.hidden[band], scale[band], matrix, flux)
        solve_fluxes(matrix, scale[band], prior.bulge, prior.bulge_scatter, free, flux)
        for i in range(images):
            own = np.float32(flux[i])
            for n in range(len(work.dx)):
                rows[0, n] -= own * rows[1 + i, n]
        chi2 += weighted_square(rows[0], blend.samples.weight[band])
    objective = 0.5 * chi2 + _weigh_priors(blend, scale, state)
    state.value[0] = np.inf if np.isnan(objective) else objective
    state.value[1] = chi2


@part()
def _weigh_priors(blend: Blend, scale: Array, state: State) -> float:
    """Write −ln prior of each source, with that of its bulges in all bands; return their sum."""
    prior, total = blend.prior, 0.0
    pull, stiffness = np.empty(PARAMETERS), np.empty((PARAMETERS, PARAMETERS))
    for k in range(len(blend.start)):
        penalty = log_prior(
            prior, state.theta[k], blend.start[k], blend.compact[k], pull, stiffness
        )
        for band in range(len(scale)):
            disk, bulge = state.flux[band, 2 * k], state.flux[band, 2 * k + 1]
            off = bulge - prior.bulge * (disk + bulge)
            penalty += 0.5 * (off / (prior.bulge_scatter * scale[band, k])) ** 2
            if blend.hidden[band, k]:
                penalty += 0.5 * ((disk + bulge) / scale[band, k] - 1) ** 2
        state.prior[k] = penalty
        total += penalty
    return total


@part()
def write_slopes(work: Work, band: int, k: int, m: int, flux: Array) -> None:
    """Write the derivatives of source k, the m-th that moves, by theta at the fluxes ``(2 K,)``.

    Theta is (x, y, g1, g2, ln r, ln r_b, g1_b, g2_b, ln n).
    """
    disk, bulge = np.float32(flux[2 * k]), np.float32(flux[2 * k + 1])
    of_disk, of_bulge = work.slopes[band, k, 0], work.slopes[band, k, 1]
    first = 1 + len(flux) + PARAMETERS * m
    out = work.rows[band, first : first + PARAMETERS]
    for j in range(2):
        _mix(disk, of_disk[j], bulge, of_bulge[j], out[j])
        _scale(disk, of_disk[2 + j], out[2 + j])
        _scale(bulge, of_bulge[2 + j], out[6 + j])
    _scale(disk, of_disk[4], out[4])
    _scale(bulge, of_bulge[4], out[5])
    _scale(disk, of_disk[5], out[8])


@part()
def _scale(factor: np.float32, row: FloatArray, out: FloatArray) -> None:
    for n in range(len(out)):
        out[n] = factor * row[n]


@part()
def _mix(
    factor: np.float32, row: FloatArray, other: np.float32, second: FloatArray, out: FloatArray
) -> None:
    for n in range(len(out)):
        out[n] = factor * row[n] + other * second[n]


@part()
def normal_equations(blend: Blend, work: Work, moving: Indices, state: State) -> None:
    """Write gradient and curvature of the last evaluation, by theta of the free sources."""
    images, free = 2 * len(blend.start), PARAMETERS * len(moving)
    first = 1 + images
    matrix = np.empty((images, images))
    _prior_equations(blend, moving, state)
    for band in range(len(work.rows)):
        products, cross = work.products[band], state.cross[band]
        for m in range(len(moving)):
            write_slopes(work, band, moving[m], m, state.flux[band])
        weight = blend.samples.weight[band]
        gram(work.rows[band], weight, first, first + free, work.left, products)
        for i in range(images):
            for j in range(images):
                matrix[i, j] = state.matrix[band, i, j]
            for j in range(free):
                cross[i, j] = -products[1 + i, first + j]
        solve(matrix, cross)
        for i in range(free):
            state.gradient[i] -= products[first + i, 0]
            for j in range(free):
                state.curvature[i, j] += products[first + i, first + j]
            for n in range(images):
                overlap = products[first + i, 1 + n]
                for j in range(free):
                    state.curvature[i, j] += overlap * cross[n, j]


@part()
def _prior_equations(blend: Blend, moving: Indices, state: State) -> None:
    """Write gradient and curvature of the priors of the free sources."""
    pull, stiffness = np.empty(PARAMETERS), np.empty((PARAMETERS, PARAMETERS))
    for i in range(len(state.gradient)):
        for j in range(len(state.gradient)):
            state.curvature[i, j] = 0
    for m in range(len(moving)):
        k, at = moving[m], PARAMETERS * m
        log_prior(blend.prior, state.theta[k], blend.start[k], blend.compact[k], pull, stiffness)
        for i in range(PARAMETERS):
            state.gradient[at + i] = pull[i]
            for j in range(PARAMETERS):
                state.curvature[at + i, at + j] = stiffness[i, j]
