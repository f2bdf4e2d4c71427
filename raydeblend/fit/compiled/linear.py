"""Sums over samples, and the small linear systems of the fit, solved in place in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.cache import SUMMED, part
from raydeblend.fit.compiled.products import CHUNK

Array = NDArray[np.float64]
FloatArray = NDArray[np.float32]

FLOOR = 0.01
"""A disk keeps this part of its source's first flux, so that no source loses its gradient."""
_HOLD = 1e7  # Relative to the curvature of a flux: holds it where it is.
_ROUNDS = 3


@part(SUMMED)
def weighted_square(values: FloatArray, weight: FloatArray) -> float:
    """Return Σ w v²."""
    total = 0.0
    for start in range(0, len(values), CHUNK):
        inner = np.float32(0)
        for i in range(start, min(start + CHUNK, len(values))):
            inner += weight[i] * values[i] * values[i]
        total += float(inner)
    return total


@part()
def solve(matrix: Array, right: Array) -> bool:
    """Solve matrix x = right ``(n, m)`` by elimination with pivots, both overwritten.

    Returns whether that went well: where a pivot is 0 or no number, the result is no number.
    """
    n, m = right.shape
    for column in range(n):
        pivot = column
        for row in range(column + 1, n):
            if abs(matrix[row, column]) > abs(matrix[pivot, column]):
                pivot = row
        head = matrix[pivot, column]
        if head == 0 or not np.isfinite(head):
            for row in range(n):
                for i in range(m):
                    right[row, i] = np.nan
            return False
        if pivot != column:
            for i in range(column, n):
                matrix[column, i], matrix[pivot, i] = matrix[pivot, i], matrix[column, i]
            for i in range(m):
                right[column, i], right[pivot, i] = right[pivot, i], right[column, i]
        for row in range(column + 1, n):
            factor = matrix[row, column] / head
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
def invert(matrix: Array, out: Array) -> None:
    """Write the inverse of a matrix, which is overwritten."""
    for i in range(len(out)):
        for j in range(len(out)):
            out[i, j] = 1.0 if i == j else 0.0
    solve(matrix, out)


@part()
def solve_fluxes(
    matrix: Array, scale: Array, expected: float, scatter: float, free: Array, flux: Array
) -> None:
    """Find the fluxes ``(2 K,)`` of disks and bulges in one band, none negative.

    `flux` holds the images' products with the data and gets the fluxes.  `matrix` ``(2 K, 2 K)``
    holds the images' products and gets the prior on each bulge, N(the `expected` part of its
    source's flux, `scatter` times `scale` ``(K,)``), and holds each flux that would be negative at
    its bound, as the step must.  In `free`, for errors, the disk of a source that is held as a
    whole is free: a flux is not known to be at its bound.
    """
    n = len(matrix)
    diagonal, held, right = np.empty(n), np.zeros(n, dtype=np.bool_), np.empty(n)
    above = np.empty((n, 1))
    for i in range(n):
        k = i // 2
        row = (-expected, 1 - expected)
        for c in range(2):
            matrix[i, 2 * k + c] += row[i % 2] * row[c] / (scatter * scale[k]) ** 2
        diagonal[i] = matrix[i, i]
        matrix[i, i] += 1e-6 * diagonal[i] + 1e-12
    for i in range(n):
        right[i] = flux[i]
        for k in range(n // 2):
            right[i] -= matrix[i, 2 * k] * FLOOR * scale[k]
    for turn in range(_ROUNDS + 1):
        for i in range(n):
            above[i, 0] = right[i]
            for j in range(n):
                free[i, j] = matrix[i, j]
        solve(free, above)
        changed = False
        for i in range(n):
            if turn < _ROUNDS and above[i, 0] < 0 and not held[i]:
                held[i] = changed = True
                matrix[i, i] += _HOLD * diagonal[i]
        if not changed:
            break
    for i in range(n):
        bound = 0.0 if i % 2 else FLOOR * scale[i // 2]
        flux[i] = bound + (0.0 if above[i, 0] < 0 else above[i, 0])
        for j in range(n):
            free[i, j] = matrix[i, j]
        if i % 2 == 0 and held[i] and held[i + 1]:
            free[i, i] -= _HOLD * diagonal[i]
