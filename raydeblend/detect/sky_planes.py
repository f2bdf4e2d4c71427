"""The level of an image between its sources: a plane through the low values of each window.

A constant or gradient added to the image is added to the plane, but the light of sources hardly
changes it, even if it fills half of a window as that of a large galaxy does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend.detect.sky_config import SKY
from raydeblend.tile import BoolArray, FloatArray

Float64Array = NDArray[np.float64]


@dataclass(frozen=True)
class Planes:
    """A plane at each node ``(node y, node x)``: ``level + y slope_y + x slope_x``."""

    level: Float64Array
    slope_y: Float64Array
    slope_x: Float64Array

    def at(self, y: float | Float64Array, x: float | Float64Array) -> Float64Array:
        """Return the planes' values at places relative to their nodes."""
        return np.asarray(self.level + y * self.slope_y + x * self.slope_x)

    def spread(self, n: int) -> Float64Array:
        """Return the values of each node's plane at `n` by `n` places around it, as one image."""
        part = (np.arange(n) + 0.5) / n - 0.5
        values = self.at(part[:, None, None, None], part[:, None, None])
        rows, columns = self.level.shape
        return values.transpose(2, 0, 3, 1).reshape(rows * n, columns * n)

    def level_only(self) -> Planes:
        """Return the planes without their slopes."""
        return Planes(self.level, np.zeros_like(self.level), np.zeros_like(self.level))

    def halved(self) -> Planes:
        """Return the same planes on a grid of half the spacing, and in units of it."""
        quarters = [[self.at(y, x) for x in (-0.25, 0.25)] for y in (-0.25, 0.25)]
        level = np.stack([np.stack(row, axis=-1) for row in quarters], axis=1)
        rows, columns = self.level.shape
        slopes = ((a / 2).repeat(2, axis=0).repeat(2, axis=1) for a in (self.slope_y, self.slope_x))
        return Planes(level.reshape(2 * rows, 2 * columns), *slopes)


def quotient(total: Float64Array, count: NDArray[np.integer]) -> Float64Array:
    """Return means from sums; NaN where nothing was counted."""
    mean = np.full(total.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


@dataclass(frozen=True)
class Lows:
    """The low value near each node and its offset from it ``(node y, node x)``; NaN if none."""

    value: Float64Array
    y: Float64Array
    x: Float64Array


def low_means(values: Float64Array, side: int) -> Lows:
    """Return the mean of the lower half of each `side` by `side` values, ignoring NaN."""
    rows, columns = (n // side for n in values.shape)
    blocks = values.reshape(rows, side, columns, side).transpose(1, 3, 0, 2)
    parts = blocks.reshape(side**2, rows, columns)
    order = np.argsort(parts, axis=0, kind="stable")
    half = (np.isfinite(parts).sum(axis=0) + 1) // 2
    chosen = np.arange(side**2)[:, None, None] < half
    offsets = (np.arange(side) + 0.5) / side - 0.5

    def mean(ordered: Float64Array) -> Float64Array:
        total = np.where(chosen, ordered, 0).sum(axis=0)
        return quotient(total, half)

    y, x = offsets[order // side], offsets[order % side]
    return Lows(mean(np.take_along_axis(parts, order, axis=0)), mean(y), mean(x))


def low_planes(lows: Lows, sigma: Float64Array, reach: int) -> Planes:
    """Fit a plane to the low values within `reach` nodes of each node.

    Parameters
    ----------
    sigma
        ``(y, x)`` noise of a pixel.

    Returns
    -------
    Planes in units of the nodes' spacing; not finite where no value is within reach.
    """
    near, y, x = (_windows(a, reach) for a in (lows.value, lows.y, lows.x))
    there = np.isfinite(near)
    low = _low_value(near)
    near = np.minimum((near - low) / sigma, SKY.cap)
    axis = np.arange(-reach, reach + 1.0)
    y += axis.repeat(len(axis))[:, None, None]
    x += np.tile(axis, len(axis))[:, None, None]
    points = [np.where(there, a, 0).astype(np.float32) for a in (near, y / reach, x / reach)]
    level, slope_y, slope_x = (sigma * a for a in _fit(points[0], points[1], points[2], there))
    return Planes(low + level + SKY.bias * sigma, slope_y / reach, slope_x / reach)


def _windows(values: Float64Array, reach: int) -> Float64Array:
    """Return the values around each node ``(points, y, x)``, row by row."""
    rows, columns = values.shape
    padded = np.pad(values, reach, constant_values=np.nan)
    side = range(2 * reach + 1)
    return np.stack([padded[y : y + rows, x : x + columns] for y in side for x in side])


def _low_value(near: Float64Array) -> Float64Array:
    """Return the quantile (`SkyConfig.quantile`) of the values that are not NaN."""
    place = (SKY.quantile * np.isfinite(near).sum(axis=0)).astype(int)
    return np.asarray(np.take_along_axis(np.sort(near, axis=0), place[None], axis=0)[0])


def _fit(
    near: FloatArray, y: FloatArray, x: FloatArray, there: BoolArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return level and slopes of the planes below which a quantile of the points lies.

    Quantile regression (Koenker & Bassett 1978, Econometrica 46, 33) by reweighted least squares:
    a point off the plane counts only by its sign, so that no source has much weight.
    """
    level = slope_y = slope_x = np.zeros(near.shape[1:], dtype=np.float32)
    for _ in range(SKY.rounds):
        rest = near - (level + y * slope_y + x * slope_x)
        weight = np.where(rest > 0, np.float32(SKY.quantile), np.float32(1 - SKY.quantile)) * there
        weight /= np.maximum(np.abs(rest), np.float32(SKY.core))
        level, slope_y, slope_x = _weighted_plane(near, weight, y, x)
    share = _plane_share(near - (level + y * slope_y + x * slope_x), there)
    return share * level, share * slope_y, share * slope_x


def _plane_share(rest: FloatArray, there: BoolArray) -> FloatArray:
    """Return the fraction of the planes to keep, from 1 down to 0 where light fills a window.

    There a plane would follow the light, and be below the sky on the other side; instead the low
    value of the window is taken.
    """
    lit = ((rest > SKY.lit) & there).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    share = (SKY.flat_above - lit) / (SKY.flat_above - SKY.sloped_below)
    return np.asarray(np.clip(share, 0, 1), dtype=np.float32)


def _weighted_plane(
    values: FloatArray, weight: FloatArray, y: FloatArray, x: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return level and slopes by weighted least squares."""
    total = np.maximum(weight.sum(axis=0), np.float32(1e-6))
    ridge = np.float32(SKY.ridge) / total

    def mean(*factors: FloatArray) -> FloatArray:
        product = weight
        for factor in factors:
            product = product * factor
        return np.asarray(product.sum(axis=0) / total)

    my, mx, mv = mean(y), mean(x), mean(values)
    yy, xx, xy = mean(y, y) - my**2 + ridge, mean(x, x) - mx**2 + ridge, mean(y, x) - my * mx
    yv, xv = mean(y, values) - my * mv, mean(x, values) - mx * mv
    determinant = yy * xx - xy**2
    slope_y, slope_x = (yv * xx - xv * xy) / determinant, (xv * yy - yv * xy) / determinant
    return mv - my * slope_y - mx * slope_x, slope_y, slope_x
