"""Sums over samples, and the small linear systems of the fit, solved in place in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled import SUMMED, part

Array = NDArray[np.float64]
FloatArray = NDArray[np.float32]

CHUNK = 512
"""Samples that are summed in float32, a multiple of a block; sums of chunks are float64."""
FLOOR = 0.01
"""A disk keeps this part of its source's first flux, so that no source loses its gradient."""
_HOLD = 1e7  # Relative to the curvature of a flux: holds it where it is.
_ROUNDS = 3


@part(SUMMED)
def _four(a: FloatArray, b: FloatArray, c: FloatArray, d: FloatArray) -> Any:
    """Return the products a·c, a·d, b·c, b·d: two rows at a time halve what is loaded."""
    ac = ad = bc = bd = np.float32(0)
    for i in range(len(a)):
        ac += a[i] * c[i]
        ad += a[i] * d[i]
        bc += b[i] * c[i]
        bd += b[i] * d[i]
    return ac, ad, bc, bd


@part(SUMMED)
def weighted_square(values: FloatArray, weight: FloatArray) -> float:
    """Return Σ w v²."""
    total = 0.0
    for start in range(0, len(values), CHUNK):
        inner = np.float32(0)
        for i in range(start, min(start + CHUNK, len(values))):
            inner += weight[i] * values[i] * values[i]
        total += inner
    return total


@part()
def gram(
    rows: FloatArray, weight: FloatArray, first: int, last: int, left: FloatArray, out: Array
) -> None:
    """Write Σ w r_i r_j of rows ``(r, p)``, first <= i < last, j <= i, to both triangles of out.

    `left` ``(2, CHUNK)`` is working memory.
    """
    out[first:last, :last] = 0
    for start in range(0, rows.shape[1], CHUNK):
        at = slice(start, min(start + CHUNK, rows.shape[1]))
        size = at.stop - at.start
        own = weight[at]
        for i in range(first, last, 2):
            beside = min(i + 1, last - 1)
            for n in range(size):
                left[0, n] = own[n] * rows[i, start + n]
                left[1, n] = own[n] * rows[beside, start + n]
            for j in range(0, beside + 1, 2):
                other = min(j + 1, last - 1)
                ac, ad, bc, bd = _four(left[0, :size], left[1, :size], rows[j, at], rows[other, at])
                out[i, j] += ac
                if other > j:
                    out[i, other] += ad
                if beside > i:
                    out[beside, j] += bc
                    if other > j:
                        out[beside, other] += bd
    for i in range(first, last):
        for j in range(i):
            out[j, i] = out[i, j]


@part()
def solve(matrix: Array, right: Array) -> bool:
    """Solve matrix x = right ``(n, m)`` by elimination with pivots, both overwritten.

    Returns whether that went well; where a pivot is 0 or no number, it did not.
    """
    n, m = right.shape
    for column in range(n):
        pivot = column
        for row in range(column + 1, n):
            if abs(matrix[row, column]) > abs(matrix[pivot, column]):
                pivot = row
        head = matrix[pivot, column]
        if head == 0 or not np.isfinite(head):
            return False
        if pivot != column:
            for i in range(column, n):
                matrix[column, i], matrix[pivot, i] = matrix[pivot, i], matrix[column, i]
            for i in range(m):
                right[column, i], right[pivot, i] = right[pivot, i], right[column, i]
        for row in range(column + 1, n):
            factor = matrix[row, column] / head
            if factor != 0:
                for i in range(column + 1, n):
                    matrix[row, i] -= factor * matrix[column, i]
                for i in range(m):
                    right[row, i] -= factor * right[column, i]
    for row in range(n - 1, -1, -1):
        for above in range(row + 1, n):
            factor = matrix[row, above]
            for i in range(m):
                right[row, i] -= factor * right[above, i]
        for i in range(m):
            right[row, i] /= matrix[row, row]
    return True


@part()
def inverse(matrix: Array) -> Array:
    """Return the inverse of a matrix, which is kept; not a number where there is none."""
    out = np.eye(len(matrix))
    if not solve(matrix.copy(), out):
        out[:] = np.nan
    return out


@part()
def solved(matrix: Array, right: Array) -> Array:
    """Return the solution ``(n,)`` of a system, which is kept; not a number where there is none."""
    out = right.copy().reshape(-1, 1)
    if not solve(matrix.copy(), out):
        out[:] = np.nan
    return out[:, 0]


@part()
def solve_fluxes(
    matrix: Array, right: Array, scale: Array, expected: Array, scatter: float, free: Array
) -> Array:
    """Return the fluxes ``(2 K,)`` of disks and bulges in one band, none negative.

    `matrix` ``(2 K, 2 K)`` holds the gram matrix and gets, in place, the prior on each bulge,
    N(`expected` ``(K,)`` part of its source's flux, `scatter` times `scale` ``(K,)``), and holds
    each flux that would be negative at its bound, as the step must.  In `free`, for errors, the
    disk of a source that is held as a whole is free: a flux is not known to be at its bound.
    """
    n = len(matrix)
    bound, diagonal = np.zeros(n), np.zeros(n)
    for k in range(n // 2):
        row = (-expected[k], 1 - expected[k])
        for i in range(2):
            for j in range(2):
                matrix[2 * k + i, 2 * k + j] += row[i] * row[j] / (scatter * scale[k]) ** 2
        bound[2 * k] = FLOOR * scale[k]
    for i in range(n):
        diagonal[i] = matrix[i, i]
        matrix[i, i] += 1e-6 * diagonal[i] + 1e-12
    rest = right - _product(matrix, bound)
    above = solved(matrix, rest)
    held = np.zeros(n, dtype=np.bool_)
    for _ in range(_ROUNDS):
        changed = False
        for i in range(n):
            if above[i] < 0 and not held[i]:
                held[i] = changed = True
                matrix[i, i] += _HOLD * diagonal[i]
        if not changed:
            break
        above = solved(matrix, rest)
    free[:] = matrix
    for disk in range(0, n, 2):
        if held[disk] and held[disk + 1]:
            free[disk, disk] -= _HOLD * diagonal[disk]
    for i in range(n):
        above[i] = bound[i] + (0.0 if above[i] < 0 else above[i])
    return above


@part()
def _product(matrix: Array, vector: Array) -> Array:
    out = np.zeros(len(matrix))
    for i in range(len(matrix)):
        for j in range(len(vector)):
            out[i] += matrix[i, j] * vector[j]
    return out
