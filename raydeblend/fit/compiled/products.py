"""Weighted products of rows of samples with each other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from raydeblend.fit.compiled.cache import part
from raydeblend.fit.compiled.lanes import LANES, Lanes, array_of, index

Array = NDArray[np.float64]
FloatArray = NDArray[np.float32]

CHUNK = 1024
"""Samples that are summed in float32, a multiple of a block; sums of chunks are float64."""
WIDE = 4
TALL = 4 if LANES == 16 else 2
"""Numbers of rows that are multiplied with each other at once: their products stay in registers."""


@part()
def gram(
    rows: FloatArray, weight: FloatArray, first: int, last: int, left: FloatArray, out: Array
) -> None:
    """Write Σ w r_i r_j of rows ``(r, p)``, first <= i < last, j <= i, to both triangles of out.

    `left` ``(TALL, CHUNK)`` is working memory, and p is that of whole blocks.
    """
    for i in range(first, last):
        for j in range(last):
            out[i, j] = 0
    sums = np.empty((TALL, WIDE), dtype=np.float32)
    for start in range(0, rows.shape[1], CHUNK):
        size = min(CHUNK, rows.shape[1] - start)
        for i in range(first, last, TALL):
            tall = min(TALL, last - i)
            _weigh(rows, weight, i, last, start, size, left)
            for j in range(0, i + tall, WIDE):
                _products(left, rows, start, size, j, last, sums)
                for a in range(tall):
                    for b in range(min(WIDE, i + a + 1 - j)):
                        out[i + a, j + b] += sums[a, b]
    for i in range(first, last):
        for j in range(i):
            out[j, i] = out[i, j]


@part()
def _weigh(
    rows: FloatArray,
    weight: FloatArray,
    first: int,
    last: int,
    start: int,
    size: int,
    left: FloatArray,
) -> None:
    """Write `TALL` rows from the first on, times their weights; there is none from the last on."""
    own = weight[start : start + size]
    for a in range(TALL):
        row = rows[min(first + a, last - 1), start : start + size]
        for n in range(size):
            left[a, n] = own[n] * row[n]


@intrinsic  # type: ignore[untyped-decorator]
def _products(
    _: Any, left: Any, rows: Any, start: Any, size: Any, first: Any, last: Any, out: Any
) -> Any:
    """Write the products ``(TALL, WIDE)`` of `left` with `WIDE` rows from the first on.

    The sum is over `size` samples from `start` on; rows from `last` on do not exist.
    """
    return types.void(left, rows, start, size, first, last, out), _write_products


def _write_products(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    left, rows, out = (array_of(context, builder, signature, arguments, i) for i in (0, 1, 6))
    start, size, first, last = arguments[2:6]
    lanes, length = Lanes(builder), builder.extract_value(rows.shape, 1)
    sums = [[lanes.sum() for _ in range(WIDE)] for _ in range(TALL)]
    begin = [_begin_of_row(builder, first, last, b, length, start) for b in range(WIDE)]
    with cgutils.for_range_slice(builder, index(0), size, index(LANES)) as (at, _):
        wide = [lanes.load(rows.data, builder.add(own, at)) for own in begin]
        for a in range(TALL):
            tall = lanes.load(left.data, builder.add(at, index(a * CHUNK)))
            for place, other in zip(sums[a], wide, strict=True):
                lanes.add_to(place, lanes.times(tall, other))
    for a in range(TALL):
        for b in range(WIDE):
            total = lanes.total(builder.load(sums[a][b]))
            builder.store(total, builder.gep(out.data, [index(a * WIDE + b)]))
    return context.get_dummy_value()


def _begin_of_row(builder: Any, first: Any, last: Any, number: int, length: Any, start: Any) -> Any:
    """Return where in memory the samples of a row begin; behind the last row, of that one."""
    row, most = builder.add(first, index(number)), builder.sub(last, index(1))
    row = builder.select(builder.icmp_signed("<", row, most), row, most)
    return builder.add(builder.mul(row, length), start)
