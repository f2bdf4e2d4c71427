"""A band binned to squares of a few pixels, and which of these belong to sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.detect.sky_config import SKY
from raydeblend.detect.sky_planes import Float64Array, Lows, Planes, low_means, low_planes, quotient
from raydeblend.tile import BoolArray, FloatArray

_add = partial(np.add, dtype=np.float64)


@dataclass(frozen=True)
class Squares:
    """One band in squares ``(y, x)``, and its low values in cells.

    Attributes
    ----------
    total, count
        Sum and number of the usable pixels.
    sigma
        Noise of a pixel.
    brightest
        Highest smoothed value nearby.
    source
        Whether there is a source nearby.
    wings
        Light per pixel, in sigma, expected from the wings of nearby sources.
    lows, cell_sigma
        The low value of each cell and the noise of a pixel there.
    """

    total: Float64Array
    count: Float64Array
    sigma: Float64Array
    brightest: Float64Array
    source: BoolArray
    wings: Float64Array
    lows: Lows
    cell_sigma: Float64Array


def make_squares(image: FloatArray, variance: FloatArray, unusable: BoolArray) -> Squares:
    """Return the squares of a band.

    Parameters
    ----------
    image, variance, unusable
        ``(y, x)``, whole cells; those at the border are unusable.
    """
    # Double precision, for a sky of many thousand sigma.
    total = joined(_add, np.where(unusable, np.float32(0), image), SKY.bin)
    count = joined(np.add, (~unusable).view(np.uint8), SKY.bin)
    square_total, square_count = (
        joined(function, a, SKY.bins_per_square) for function, a in ((_add, total), (np.add, count))
    )
    spread = joined(_add, variance, SKY.square)
    lows = low_means(quotient(square_total, square_count), SKY.squares_per_cell)
    cell_sigma = np.sqrt(joined(_add, spread, SKY.squares_per_cell)) / SKY.cell
    planes = low_planes(lows, cell_sigma, reach=1)
    mean = _filled(quotient(total, count), planes)
    sigma = np.sqrt(spread) / SKY.square
    cap = planes.spread(SKY.cell // SKY.bin) + SKY.max_peak * _spread(sigma)
    source = _highest_near(_departure(mean, np.fmin(mean, cap), sigma)) > SKY.source_sigma
    level = np.nan_to_num(planes.spread(SKY.squares_per_cell))
    light = np.where(source, (square_total - square_count * level) / sigma, 0)
    return Squares(
        total=square_total,
        count=square_count.astype(np.float64),
        sigma=sigma,
        brightest=_highest_near(_gaussian(mean, SKY.fine / SKY.bin)),
        source=source,
        wings=_wings(light),
        lows=lows,
        cell_sigma=cell_sigma,
    )


def _wings(light: Float64Array) -> Float64Array:
    """Return the light per pixel expected from wings at each square, given the squares' light."""
    pairs = np.maximum(joined(np.add, light, 2), 0)
    pairs *= (pairs / SKY.wing_light) ** SKY.wing_power
    # Gaussians a factor of 2 apart with fluxes of 1 / width add up to 0.29 r^-3.
    total = np.zeros_like(pairs)
    for width in SKY.wing_widths:
        smooth = ndimage.gaussian_filter(
            pairs, width / (2 * SKY.square), mode="constant", truncate=SKY.wing_truncate
        )
        total += smooth * (SKY.wing_fraction / 0.29 / width / (2 * SKY.square) ** 2)
    return np.asarray(total.repeat(2, axis=0).repeat(2, axis=1))


def joined(function: Callable[..., NDArray[Any]], values: NDArray[Any], side: int) -> NDArray[Any]:
    """Return each `side` by `side` values combined by a function such as `numpy.add`."""
    rows = reduce(function, (values[start::side] for start in range(side)))
    return reduce(function, (rows[:, start::side] for start in range(side)))


def _filled(mean: Float64Array, planes: Planes) -> Float64Array:
    """Return the bins, with those that have no value set to the plane of their cell.

    Otherwise holes and borders would look like sources where the sky has a gradient.
    """
    empty = np.isnan(mean)
    places = [(i + 0.5) * SKY.bin / SKY.cell for i in np.nonzero(empty)]
    # A cell at the border has values on one side only, so it takes its neighbor's plane.
    cell = tuple(
        np.clip(place.astype(int), 1, n - 2)
        for place, n in zip(places, planes.level.shape, strict=True)
    )
    y, x = (place - i - 0.5 for place, i in zip(places, cell, strict=True))
    filled = mean.copy()
    # There is no plane where all usable pixels are beyond the reach of every filter.
    filled[empty] = np.nan_to_num(
        planes.level[cell] + y * planes.slope_y[cell] + x * planes.slope_x[cell]
    )
    return filled


def _departure(mean: Float64Array, capped: Float64Array, sigma: Float64Array) -> Float64Array:
    """Return the significance, of either sign, of the fine structure of the bins.

    The smooth sky comes from clipped bins, since bright peaks would leave rings around them.  It is
    subtracted before the division by the noise, so that steps of the noise make no steps of sky.
    """
    smooth = _gaussian(
        joined(_add, capped, SKY.bins_per_square) / SKY.bins_per_square**2, SKY.coarse / SKY.square
    )
    rest = (mean - _spread(smooth)) / _spread(sigma)
    # A Gaussian filter reduces white noise of unit variance to 1 / (2 π^½ σ).
    return np.asarray(np.abs(_gaussian(rest, SKY.fine / SKY.bin)) * (2 * np.sqrt(np.pi) * SKY.fine))


def _spread(squares: Float64Array) -> Float64Array:
    return squares.repeat(SKY.bins_per_square, axis=0).repeat(SKY.bins_per_square, axis=1)


def _gaussian(values: Float64Array, sigma: float) -> Float64Array:
    filtered = ndimage.gaussian_filter(values, sigma, mode="nearest", truncate=SKY.truncate)
    return np.asarray(filtered)


def _highest_near(bins: Float64Array) -> Float64Array:
    """Return the highest bin within `SKY.grow` squares of each square."""
    highest = joined(np.maximum, bins, SKY.bins_per_square)
    return np.asarray(ndimage.maximum_filter(highest, size=2 * SKY.grow + 1, mode="nearest"))
