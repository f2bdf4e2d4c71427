"""A band in squares of a few pixels, and what tells those of the sky from those of sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.detect.sky_planes import Float64Array, Lows, Planes, low_means, low_planes, quotient
from raydeblend.tile import BoolArray, FloatArray

SIDE = 4
"""Of a square, in pixels."""
CELL = 32
"""Side of the cells in which low values are taken, in pixels."""
PER_CELL = CELL // SIDE
# Sources are sought in bins of this many pixels a side, a quarter of the work.
BIN = 2
PER_SQUARE = SIDE // BIN
# A source is where a difference of Gaussians, blind to a smooth sky, is off zero.  Both signs are
# taken, since masking only the positive noise would leave a negative mean.
FINE, COARSE = 2.0, 12.0
TRUNCATE = 2.0
SOURCE_SIGMA = 3.0
# Bins count no more than this, in sigma of a pixel above the plane, for the smooth sky.
RING = 2.0
# So many squares about a source are taken for its wings.
GROW = 2
# A source has wings of `WINGS` r^-3 times its light at r pixels: a third of those of a de
# Vaucouleurs galaxy as large as its light lets expect.  Radii grow with the power `WING_POWER` of
# it, those of `WING_LIGHT`, in sigma of a pixel, have just that.  Gaussians of these widths make
# them.
WINGS = 0.3
WING_LIGHT, WING_POWER = 1e4, 0.25
WING_WIDTHS = (6.0, 12.0, 24.0)
WING_TRUNCATE = 3.0
REACH = (
    int(TRUNCATE * (FINE + COARSE) + WING_TRUNCATE * WING_WIDTHS[-1]) + (GROW + 4) * SIDE + 2 * CELL
)
"""Pixels beyond a square that have a part in what is told of it."""

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
        Highest smoothed value near.
    source
        Whether a source is near, by its shape.
    wings
        Light of a pixel, in sigma, that the wings of sources near are expected to have.
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
        ``(y, x)`` in whole cells, of which those at the border are unusable.
    """
    # In double precision, of which a sky of many thousand sigmas leaves enough.
    total = joined(_add, np.where(unusable, np.float32(0), image), BIN)
    count = joined(np.add, (~unusable).view(np.uint8), BIN)
    square_total, square_count = (
        joined(function, a, PER_SQUARE) for function, a in ((_add, total), (np.add, count))
    )
    spread = joined(_add, variance, SIDE)
    lows = low_means(quotient(square_total, square_count), PER_CELL)
    cell_sigma = np.sqrt(joined(_add, spread, PER_CELL)) / CELL
    planes = low_planes(lows, cell_sigma, reach=1)
    mean = _filled(quotient(total, count), planes)
    sigma = np.sqrt(spread) / SIDE
    cap = planes.spread(CELL // BIN) + RING * _spread(sigma)
    source = _highest_near(_departure(mean, np.fmin(mean, cap), sigma)) > SOURCE_SIGMA
    level = np.nan_to_num(planes.spread(PER_CELL))
    light = np.where(source, (square_total - square_count * level) / sigma, 0)
    return Squares(
        total=square_total,
        count=square_count.astype(np.float64),
        sigma=sigma,
        brightest=_highest_near(_gaussian(mean, FINE / BIN)),
        source=source,
        wings=_wings(light),
        lows=lows,
        cell_sigma=cell_sigma,
    )


def _wings(light: Float64Array) -> Float64Array:
    """Return the wings to expect at each square, per pixel, of the light of squares."""
    pairs = np.maximum(joined(np.add, light, 2), 0)
    pairs *= (pairs / WING_LIGHT) ** WING_POWER
    # Gaussians a factor of 2 apart, each of a flux of 1 / width, add up to 0.29 r^-3.
    total = np.zeros_like(pairs)
    for width in WING_WIDTHS:
        smooth = ndimage.gaussian_filter(
            pairs, width / (2 * SIDE), mode="constant", truncate=WING_TRUNCATE
        )
        total += smooth * (WINGS / 0.29 / width / (2 * SIDE) ** 2)
    return np.asarray(total.repeat(2, axis=0).repeat(2, axis=1))


def joined(function: Callable[..., NDArray[Any]], values: NDArray[Any], side: int) -> NDArray[Any]:
    """Return what becomes of each `side` by `side` values."""
    rows = reduce(function, (values[start::side] for start in range(side)))
    return reduce(function, (rows[:, start::side] for start in range(side)))


def _filled(mean: Float64Array, planes: Planes) -> Float64Array:
    """Return the bins, those without a value on the plane about their cell.

    Holes and borders then do not look like sources where the sky has a gradient.
    """
    empty = np.isnan(mean)
    places = [(i + 0.5) * BIN / CELL for i in np.nonzero(empty)]
    # A cell of the border takes the plane of its neighbor: it has values on one side only.
    cell = tuple(
        np.clip(place.astype(int), 1, n - 2)
        for place, n in zip(places, planes.level.shape, strict=True)
    )
    y, x = (place - i - 0.5 for place, i in zip(places, cell, strict=True))
    filled = mean.copy()
    # There is no plane farther off all that is usable than any filter reaches.
    filled[empty] = np.nan_to_num(
        planes.level[cell] + y * planes.slope_y[cell] + x * planes.slope_x[cell]
    )
    return filled


def _departure(mean: Float64Array, capped: Float64Array, sigma: Float64Array) -> Float64Array:
    """Return how many standard deviations the fine structure of the bins is off zero.

    The smooth sky is that of the bins without their bright peaks, which would dig rings around
    them.  The noise is divided out when it is gone, which else would step where the noise does.
    """
    smooth = _gaussian(joined(_add, capped, PER_SQUARE) / PER_SQUARE**2, COARSE / SIDE)
    rest = (mean - _spread(smooth)) / _spread(sigma)
    # White noise of unit variance comes out of a Gaussian filter with 1 / (2 π^½ σ).
    return np.asarray(np.abs(_gaussian(rest, FINE / BIN)) * (2 * np.sqrt(np.pi) * FINE))


def _spread(squares: Float64Array) -> Float64Array:
    return squares.repeat(PER_SQUARE, axis=0).repeat(PER_SQUARE, axis=1)


def _gaussian(values: Float64Array, sigma: float) -> Float64Array:
    filtered = ndimage.gaussian_filter(values, sigma, mode="nearest", truncate=TRUNCATE)
    return np.asarray(filtered)


def _highest_near(bins: Float64Array) -> Float64Array:
    """Return the highest bin within `GROW` squares of each square."""
    highest = joined(np.maximum, bins, PER_SQUARE)
    return np.asarray(ndimage.maximum_filter(highest, size=2 * GROW + 1, mode="nearest"))
