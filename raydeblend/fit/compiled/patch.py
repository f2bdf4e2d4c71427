"""One source drawn in a box as large as its light, not in the whole stamp."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.compiled.blend import Mixture
from raydeblend.fit.compiled.cache import entry, part
from raydeblend.fit.compiled.gaussians import (
    BLOCK,
    COLUMNS,
    convolve,
    one_sum,
    unit_covariances,
    weigh,
    within_reach,
)

Array = NDArray[np.float64]
FloatArray = NDArray[np.float32]

SIDE = 8
"""Side of the squares of pixels that are summed together, `BLOCK` of them."""
_GROWTH = 1.25  # From one radius that is looked at to the next.


@entry
def draw_patch(
    mixture: Mixture,
    place: NDArray[np.int64],
    theta: Array,
    flux: Array,
    height: int,
    width: int,
    faintest: float,
) -> tuple[int, int, FloatArray]:
    """Return the image ``(b, h, w)`` of a source and the pixel (y, x) of its first corner.

    Outside it, and on the image of ``(height, width)`` pixels, the source is below `faintest`.

    Parameters
    ----------
    place, theta, flux
        ``(b,)``, ``(9,)`` and ``(b, 2)`` of disk and bulge.
    """
    bands, count = len(flux), len(mixture.variance)
    cov, by_shape = np.empty((2, 3)), np.empty((2, 3, 3))
    unit_covariances(theta, cov, by_shape)
    tables, weights = np.empty((bands, COLUMNS, count), dtype=np.float32), np.empty((2, count))
    weigh(mixture, theta[8], weights)
    for band in range(bands):
        convolve(mixture, cov, weights, band, place[band], tables[band])
        for g in range(count):
            tables[band, 3, g] *= flux[band, 0 if g < mixture.disk else 1]
    x0, x1 = _span(theta[0], _half_width(tables, 0, faintest, width), width)
    y0, y1 = _span(theta[1], _half_width(tables, 2, faintest, height), height)
    image = np.zeros((bands, y1 - y0, x1 - x0), dtype=np.float32)
    dx, dy = np.empty(BLOCK, dtype=np.float32), np.empty(BLOCK, dtype=np.float32)
    sums = np.empty(BLOCK, dtype=np.float32)
    near = np.empty(count, dtype=np.int64)
    for top in range(0, y1 - y0, SIDE):
        for left in range(0, x1 - x0, SIDE):
            nearest = _square(theta, y0 + top, x0 + left, dx, dy)
            for band in range(bands):
                reaching = within_reach(tables[band], 0, count, nearest, near)
                sums[:] = 0
                one_sum(dx, dy, tables[band], near, reaching, sums)
                for i in range(min(SIDE, y1 - y0 - top)):
                    for j in range(min(SIDE, x1 - x0 - left)):
                        image[band, top + i, left + j] = sums[SIDE * i + j]
    return y0, x0, image


@part()
def _square(theta: Array, top: int, left: int, dx: FloatArray, dy: FloatArray) -> float:
    """Write the offsets of a square's pixels from the center; return the least of their squares."""
    least = np.inf
    for i in range(SIDE):
        for j in range(SIDE):
            n = SIDE * i + j
            dx[n], dy[n] = left + j - theta[0], top + i - theta[1]
            least = min(least, dx[n] * dx[n] + dy[n] * dy[n])
    return least


@part()
def _span(center: float, half: float, size: int) -> tuple[int, int]:
    """Return the first pixel and the one after the last, on an axis of `size` pixels."""
    if not np.isfinite(center):
        return 0, 0
    first = min(max(int(np.floor(center - half)), 0), size)
    return first, max(min(int(np.ceil(center + half)) + 1, size), first)


@part()
def _half_width(tables: FloatArray, axis: int, faintest: float, most: int) -> float:
    """Return the distance along an axis, at most `most`, beyond which no band exceeds `faintest`.

    `axis` is 0 for x and 2 for y, as the precisions are ordered.  A Gaussian at distance d along
    x is nowhere above its norm times exp(−d² / 2 C_xx).
    """
    half = 2.0
    while half < most:
        brightest = 0.0
        for band in range(len(tables)):
            light = 0.0
            for g in range(tables.shape[2]):
                pxx, pxy, pyy = tables[band, 0, g], tables[band, 1, g], tables[band, 2, g]
                determinant = pxx * pyy - pxy * pxy
                variance = tables[band, 2 - axis, g] / determinant
                light += tables[band, 3, g] * np.exp(-0.5 * half * half / variance)
            brightest = max(brightest, abs(light))
        if brightest < faintest:
            break
        half *= _GROWTH
    return min(half, float(most))
