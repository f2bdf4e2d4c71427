"""Bulge + disk galaxies as sums of Gaussians: their values and derivatives, in compiled loops.

The light of a disk or bulge of unit flux, convolved with the PSF, is a sum over Gaussians of
covariance C = s C1 + C_psf, with C1 the covariance of the shape for unit variance, s the Gaussian's
own variance and precision P = C⁻¹.  At offset d from the center, with u = P d and
v = norm exp(−dᵀ P d / 2), seven sums are all that is needed:

    U = Σ v,  X = Σ v u_x,  Y = Σ v u_y,
    A = Σ v s (u_x² − P_xx),  B = Σ v s (u_x u_y − P_xy),  C = Σ v s (u_y² − P_yy),
    N = Σ v w' / w, with w the Gaussian's weight and w' its derivative by ln n, n the Sérsic index.

The image is U, its derivative by the center (X, Y), and by a shape parameter q, from
∂I = I (uᵀ dC u − tr(P dC)) / 2 with D = ∂C1/∂q, ½ (D_xx A + 2 D_xy B + D_yy C); that by ln n is N.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from raydeblend.fit.compiled.cache import part
from raydeblend.fit.compiled.lanes import LANES, ROUND, Lanes, array_of, index
from raydeblend.fit.sersic import LOG_INDICES

_LEAST_LOG_INDEX, _MOST_LOG_INDEX = LOG_INDICES
Array = NDArray[np.float64]
FloatArray = NDArray[np.float32]
Indices = NDArray[np.int64]

BLOCK = 64
"""Samples that are summed together: what a block needs fits the first cache of a core."""
SHAPES = 3
SLOPES = 6
"""Derivatives of a component's image: by the center (x, y), its shape (g1, g2, ln r) and ln n."""
SUMS = 7
COLUMNS = 7
"""Of a Gaussian: P (xx, xy, yy), norm, s, the norm's derivative by ln n, and its squared reach."""
MOST_EXPONENT = 30.0
"""Gaussians are cut at exp(−30): smaller values would become denormal numbers, which are slow."""

FAINTEST = 1e-9
"""Part of a source's light in a pixel below which a Gaussian does not matter there: of one of a
million sigma, a thousandth of sigma."""
_LOG_FAINTEST, _LOG_2 = float(np.log(FAINTEST)), float(np.log(2))

_LOG2_E = float(np.log2(np.e))
_HALF = np.float32(-0.5 * _LOG2_E)
_LEAST_POWER = np.float32(-MOST_EXPONENT * _LOG2_E)
_ROUND = np.float32(ROUND)
# 2^f for |f| <= 1/2, interpolated at Chebyshev's points: relative error 1e-7.
_SERIES = tuple(
    np.float32(c)
    for c in np.polynomial.chebyshev.Chebyshev.interpolate(np.exp2, 5, [-0.5, 0.5])
    .convert(kind=np.polynomial.Polynomial)
    .coef
)
_C0, _C1, _C2, _C3, _C4, _C5 = _SERIES


@intrinsic  # type: ignore[untyped-decorator]
def _bits(_: Any, value: Any) -> Any:
    """Return the bits of a float32 as an int32."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


@intrinsic  # type: ignore[untyped-decorator]
def _float(_: Any, bits: Any) -> Any:
    """Return the float32 of an int32's bits."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@part()
def power_of_two(t: np.float32) -> Any:
    """Return 2^t for −100 < t <= 0: a polynomial of degree 5 for the fractional part."""
    shifted = t + _ROUND
    f = t - (shifted - _ROUND)
    value = ((((_C5 * f + _C4) * f + _C3) * f + _C2) * f + _C1) * f + _C0
    return _float(np.int32(_bits(value) + np.int32(_bits(shifted) << np.int32(23))))


@part()
def unit_covariances(theta: Array, cov: Array, slopes: Array) -> None:
    """Write the covariances ``(2, 3)`` of disk and bulge for unit variance, and derivatives.

    As xx, xy, yy, and by (g1, g2, ln r) ``(2, 3, 3)``.  A shear keeps the area:
    C1 = r² / (1 − |g|²) [[1 + |g|² + 2 g1, 2 g2], [2 g2, 1 + |g|² − 2 g1]].
    """
    for c in range(2):
        g1, g2 = (theta[2], theta[3]) if c == 0 else (theta[6], theta[7])
        square = g1 * g1 + g2 * g2
        scale = np.exp(2 * theta[4 + c]) / (1 - square)
        cov[c, 0] = scale * (1 + square + 2 * g1)
        cov[c, 1] = scale * 2 * g2
        cov[c, 2] = scale * (1 + square - 2 * g1)
        by_g1 = (2 * g1 + 2, 0.0, 2 * g1 - 2)
        by_g2 = (2 * g2, 2.0, 2 * g2)
        for i in range(3):
            slopes[c, 0, i] = scale * by_g1[i] + 2 * g1 / (1 - square) * cov[c, i]
            slopes[c, 1, i] = scale * by_g2[i] + 2 * g2 / (1 - square) * cov[c, i]
            slopes[c, 2, i] = 2 * cov[c, i]


@part()
def weigh(mixture: Any, log_index: float, weight: Array) -> None:
    """Write each Gaussian's weight and its derivative by ln n, ``(2, g)``.

    Those of the disk are Chebyshev series, T_j+1 = 2 x T_j − T_j−1, in ln n scaled to [−1, 1].
    """
    low, high = _LEAST_LOG_INDEX, _MOST_LOG_INDEX
    inside = low < log_index < high
    x = 2 * (min(max(log_index, low), high) - low) / (high - low) - 1
    for g in range(len(mixture.variance)):
        own, slope = mixture.weight[g], mixture.slope[g]
        weight[0, g], weight[1, g] = own[0], 0.0
        if g >= mixture.disk:
            continue
        before, here = 1.0, x
        weight[1, g] = slope[0] if inside else 0.0
        for j in range(1, len(own)):
            weight[0, g] += own[j] * here
            if inside and j < len(slope):
                weight[1, g] += slope[j] * here
            before, here = here, 2 * x * here - before


@part()
def _log_above(value: np.float32) -> float:
    """Return the logarithm of the next power of two above a positive number."""
    exponent: int = (_bits(value) >> 23) - 126
    return _LOG_2 * exponent


@part()
def convolve(
    mixture: Any, cov: Array, weights: Array, band: int, place: int, table: FloatArray
) -> None:
    """Write the `COLUMNS` ``(7, g)`` of each Gaussian behind the PSF of a band at a place.

    Beyond its reach along the longest axis a Gaussian is below `FAINTEST`, or exp(−MOST_EXPONENT).
    """
    for g in range(len(mixture.variance)):
        own = mixture.variance[g]
        shape = cov[0 if g < mixture.disk else 1]
        seeing = mixture.psf_cov[band, place, mixture.psf[g]]
        seen = mixture.psf_weight[band, place, mixture.psf[g]]
        xx, xy, yy = (
            own * shape[0] + seeing[0],
            own * shape[1] + seeing[1],
            own * shape[2] + seeing[2],
        )
        determinant = xx * yy - xy * xy
        largest = 0.5 * (xx + yy + np.sqrt((xx - yy) ** 2 + 4 * xy * xy))
        table[0, g] = yy / determinant
        table[1, g] = -xy / determinant
        table[2, g] = xx / determinant
        peak = seen / (2 * np.pi * np.sqrt(determinant))
        table[3, g] = weights[0, g] * peak
        table[4, g] = own
        table[5, g] = weights[1, g] * peak
        brightest = max(abs(table[3, g]), abs(table[5, g]))
        depth = _log_above(brightest) - _LOG_FAINTEST if brightest != 0 else -1.0
        table[6, g] = 2 * min(depth, MOST_EXPONENT) * largest


@part()
def within_reach(table: FloatArray, first: int, last: int, nearest: float, near: Indices) -> int:
    """Write which Gaussians reach a block's nearest sample; return how many."""
    count = 0
    for g in range(first, last):
        # A reach that is no number, of a shape that is none, must not hide the Gaussian.
        near[count] = g
        count += not table[6, g] < nearest
    return count


@intrinsic  # type: ignore[untyped-decorator]
def all_sums(_: Any, dx: Any, dy: Any, table: Any, near: Any, count: Any, out: Any) -> Any:
    """Sum U, X, Y, A, B, C, N ``(7, BLOCK)`` over the first `count` Gaussians of `near`.

    At the offsets ``(BLOCK,)`` of a block, with the `COLUMNS` of the table.
    """
    return types.void(dx, dy, table, near, count, out), _all_sums


@intrinsic  # type: ignore[untyped-decorator]
def one_sum(_: Any, dx: Any, dy: Any, table: Any, near: Any, count: Any, out: Any) -> Any:
    """Add U ``(BLOCK,)`` alone to what is there; otherwise as `all_sums`."""
    return types.void(dx, dy, table, near, count, out), _one_sum


def _all_sums(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    arrays = [array_of(context, builder, signature, arguments, i) for i in (0, 1, 2, 3, 5)]
    dx, dy, table, near, out = arrays
    lanes = Lanes(builder)
    with cgutils.for_range_slice(builder, index(0), index(BLOCK), index(LANES)) as (at, _):
        offset = _offset(lanes, dx, dy, at)
        sums = [lanes.sum() for _ in range(SUMS)]
        with cgutils.for_range(builder, arguments[4]) as loop:
            pxx, pxy, pyy, norm, own, by_index = _columns(lanes, table, near, loop.index, 6)
            ux, uy, value = _exponential(lanes, offset, pxx, pxy, pyy)
            v = lanes.times(norm, value)
            vs = lanes.times(v, own)
            bends = (ux, ux, pxx), (ux, uy, pxy), (uy, uy, pyy)
            terms = [v, lanes.times(v, ux), lanes.times(v, uy)]
            terms += [lanes.times(vs, lanes.subtract(lanes.times(a, b), p)) for a, b, p in bends]
            terms += [lanes.times(by_index, value)]
            for place, term in zip(sums, terms, strict=True):
                lanes.add_to(place, term)
        for row, place in enumerate(sums):
            lanes.store(builder.load(place), out.data, builder.add(at, index(row * BLOCK)))
    return context.get_dummy_value()


def _one_sum(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    arrays = [array_of(context, builder, signature, arguments, i) for i in (0, 1, 2, 3, 5)]
    dx, dy, table, near, out = arrays
    lanes = Lanes(builder)
    with cgutils.for_range_slice(builder, index(0), index(BLOCK), index(LANES)) as (at, _):
        offset, total = _offset(lanes, dx, dy, at), lanes.sum()
        lanes.add_to(total, lanes.load(out.data, at))
        with cgutils.for_range(builder, arguments[4]) as loop:
            pxx, pxy, pyy, norm = _columns(lanes, table, near, loop.index, 4)
            _, _, value = _exponential(lanes, offset, pxx, pxy, pyy)
            lanes.add_to(total, lanes.times(norm, value))
        lanes.store(builder.load(total), out.data, at)
    return context.get_dummy_value()


def _columns(lanes: Lanes, table: Any, near: Any, number: Any, count: int) -> list[Any]:
    """Return the first columns of one of the near Gaussians."""
    builder = lanes.builder
    gaussian = builder.load(builder.gep(near.data, [number]))
    width = builder.extract_value(table.shape, 1)
    places = [builder.add(builder.mul(width, index(i)), gaussian) for i in range(count)]
    return [lanes.spread(builder.load(builder.gep(table.data, [at]))) for at in places]


def _offset(lanes: Lanes, dx: Any, dy: Any, at: Any) -> tuple[Any, ...]:
    """Return x, y and those times −½ log2 e."""
    x, y, half = lanes.load(dx.data, at), lanes.load(dy.data, at), lanes.constant(float(_HALF))
    return x, y, lanes.times(half, x), lanes.times(half, y)


def _exponential(
    lanes: Lanes, offset: tuple[Any, ...], pxx: Any, pxy: Any, pyy: Any
) -> tuple[Any, ...]:
    """Return u = P d (x, y) and exp(−dᵀ P d / 2)."""
    x, y, half_x, half_y = offset
    ux = lanes.add(lanes.times(pxx, x), lanes.times(pxy, y))
    uy = lanes.add(lanes.times(pxy, x), lanes.times(pyy, y))
    power = lanes.add(lanes.times(half_x, ux), lanes.times(half_y, uy))
    power = lanes.larger(power, lanes.constant(float(_LEAST_POWER)))
    return ux, uy, lanes.power_of_two(power, [float(c) for c in _SERIES])


@part()
def offsets(
    x: FloatArray, y: FloatArray, theta: Array, dx: FloatArray, dy: FloatArray, nearest: Array
) -> None:
    """Write the offsets ``(p,)`` of all samples from a center, and each block's least square."""
    for i in range(len(x)):
        dx[i] = x[i] - theta[0]
        dy[i] = y[i] - theta[1]
    for block in range(len(nearest)):
        least = np.inf
        for i in range(block * BLOCK, (block + 1) * BLOCK):
            least = min(least, dx[i] * dx[i] + dy[i] * dy[i])
        nearest[block] = least


@intrinsic  # type: ignore[untyped-decorator]
def write_block(_: Any, sums: Any, by_shape: Any, first: Any, image: Any, slopes: Any) -> Any:
    """Write the image ``(p,)`` of a component and its derivatives ``(6, p)`` at one block.

    Those are by center, shape and ln n; `by_shape` ``(3, 3)`` is of `unit_covariances`, and `first`
    the block's first sample.
    """
    return types.void(sums, by_shape, first, image, slopes), _write_block


def _write_block(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    arrays = [array_of(context, builder, signature, arguments, i) for i in (0, 1, 3, 4)]
    sums, by_shape, image, slopes = arrays
    lanes, width = Lanes(builder), builder.extract_value(slopes.shape, 1)
    bends = [_shape_factors(lanes, by_shape, q) for q in range(SHAPES)]
    with cgutils.for_range_slice(builder, index(0), index(BLOCK), index(LANES)) as (at, _):
        to = builder.add(arguments[2], at)
        rows = [lanes.load(sums.data, builder.add(at, index(row * BLOCK))) for row in range(SUMS)]
        lanes.store(rows[0], image.data, to)
        shapes = [
            lanes.add(
                lanes.add(lanes.times(a, rows[3]), lanes.times(b, rows[4])), lanes.times(c, rows[5])
            )
            for a, b, c in bends
        ]
        for row, value in enumerate([rows[1], rows[2], *shapes, rows[6]]):
            lanes.store(value, slopes.data, builder.add(builder.mul(width, index(row)), to))
    return context.get_dummy_value()


def _shape_factors(lanes: Lanes, by_shape: Any, q: int) -> list[Any]:
    """Return what a shape's derivative has of A, B and C: ½ D_xx, D_xy and ½ D_yy."""
    builder, factors = lanes.builder, []
    for i, part_of in enumerate((0.5, 1.0, 0.5)):
        number = builder.load(builder.gep(by_shape.data, [index(3 * q + i)]))
        number = builder.fmul(number, ir.Constant(ir.DoubleType(), part_of))
        factors.append(lanes.spread(builder.fptrunc(number, ir.FloatType())))
    return factors
