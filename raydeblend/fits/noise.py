"""The noise of an image that brings none: its spread, the steps of its levels, its empty fill.

Archives store no data as exact zeros (SWarp), as another constant, or as NaN, and some images as
whole counts.  Both make the median absolute deviation 0 or a multiple of the step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.tile import BoolArray

Values = NDArray[np.floating]

CLIP_SIGMA, CLIP_ROUNDS = 3.0, 10
MAD_TO_SIGMA = 1.4826
GOLDEN = 0.6180339887498949
# Below this many steps of its levels a spread is that of the few values themselves, those within
# so many steps or sigma of the median.
COARSE, NEAR_STEPS, NEAR_SIGMA = 1.0, 2.0, 3.5

QUIET_FIFTH = 0.2533
"""A fifth of normal deviates is smaller, in sigma."""
FILL_FAR = 20.0
"""A recurring level this many steps and sigma from all others is no measurement."""
FILL_PIXELS, FILL_SHARE = 30, 1e-4
"""As often does a value without levels recur that is none."""
BLOCK, COARSE_BLOCK = 3, 15
"""Side of a square of equal pixels that noise does not make: of fine levels, of coarse ones."""
FINE = 0.05
"""Levels closer than this, in sigma, are fine."""


@dataclass(frozen=True)
class SkyNoise:
    """What a tile's pixels say of its noise, in the unit of the file.

    Attributes
    ----------
    variance
        Of a pixel of empty sky; 0 where nothing can be said.
    fills
        Values that stand for no data.
    step
        Distance of the levels that the pixels lie on; 0 if they are continuous.
    """

    variance: float
    fills: tuple[float, ...] = ()
    step: float = 0.0


def measure_noise(image: Values) -> SkyNoise:
    """Measure the noise of mostly empty sky ``(y, x)``; NaN and empty fill do not count."""
    found = find_levels(image)
    good = np.isfinite(image) & ~is_fill(image, found)
    return replace(found, variance=clipped_variance(image[good], found.step))


def find_levels(image: Values) -> SkyNoise:
    """Return the step and fills of an image, and its variance with what else is empty."""
    values = image[np.isfinite(image)]
    step = level_step(values)
    fills = fill_values(values, step)
    values = values[~np.isin(values, fills)]
    step = level_step(values) if fills else step
    return SkyNoise(spread(values, step) ** 2, fills, step)


def is_fill(image: Values, noise: SkyNoise) -> BoolArray:
    """Return the pixels ``(y, x)`` without data: of a fill's value, or in a square of one value."""
    fine = noise.step <= FINE * np.sqrt(noise.variance)
    size = BLOCK if fine else COARSE_BLOCK
    if min(image.shape) < size:
        return np.isin(image, noise.fills)
    values = np.nan_to_num(image, nan=0.0)
    flat = ndimage.maximum_filter(values, size) == ndimage.minimum_filter(values, size)
    return np.asarray(np.isin(image, noise.fills) | ndimage.maximum_filter(flat, size))


def fill_values(values: Values, step: float) -> tuple[float, ...]:
    """Return the values that recur as no measurement does; `step` is that of `level_step`."""
    levels, counts = np.unique(values, return_counts=True)
    recurs = counts > max(FILL_PIXELS, len(values) * FILL_SHARE)
    if step > 0:
        rest = values[values != levels[counts.argmax()]]
        gaps = np.diff(levels, prepend=-np.inf, append=np.inf)
        recurs &= np.minimum(gaps[:-1], gaps[1:]) > FILL_FAR * max(step, spread(rest, step))
    return tuple(map(float, levels[recurs]))


def level_step(values: Values) -> float:
    """Return the distance of the levels that values lie on; 0 where hardly one occurs twice."""
    levels, counts = np.unique(values, return_counts=True)
    recur = levels[counts > 1]
    if len(recur) < 2 or len(levels) > (len(values) - counts.max()) / 4:
        return 0.0
    return float(np.diff(recur).min())


def clipped_variance(values: Values, step: float = 0.0) -> float:
    """Return the variance of mostly empty sky, clipped at 3 sigma until it settles; 0 of nothing.

    `step` is that of `level_step`.
    """
    sigma = 0.0
    for _ in range(CLIP_ROUNDS):
        if len(values) == 0:
            return 0.0
        sigma = spread(values, step)
        limit = max(CLIP_SIGMA * sigma, NEAR_STEPS * step)
        kept = values[np.abs(values - np.median(values)) <= limit]
        if len(kept) == len(values):
            break
        values = kept
    return sigma**2


def spread(values: Values, step: float = 0.0) -> float:
    """Return the standard deviation from the median absolute one, of values on levels too."""
    if len(values) == 0:
        return 0.0
    if step == 0:
        return _middle(values)[1]
    # Spread evenly over its level, a value is as good as a continuous one, and wider by the step.
    dither = (np.arange(len(values)) * GOLDEN) % 1 - 0.5
    variance = _middle(values + step * dither)[1] ** 2 - step**2 / 12
    if variance > (COARSE * step) ** 2:
        return float(np.sqrt(variance))
    limit = max(NEAR_STEPS * step, NEAR_SIGMA * np.sqrt(max(variance, 0)))
    near = values[np.abs(values - np.median(values)) <= limit]
    return float(np.std(near, dtype=np.float64))


def _middle(values: Values) -> tuple[float, float]:
    center = np.median(values)
    return float(center), float(MAD_TO_SIGMA * np.median(np.abs(values - center)))


def neighbor_noise(image: Values) -> float:
    """Return the noise of a pixel ``(y, x)`` from its neighbors in the row; 0 without any.

    They share the smooth light of a galaxy but not the noise.  NaN and empty fill do not count.
    """
    found = find_levels(image)
    difference = np.diff(np.where(is_fill(image, found), np.nan, image), axis=-1)
    difference = difference[np.isfinite(difference)]
    if found.step > 0:
        return spread(difference, found.step) / float(np.sqrt(2))
    middle = np.median(np.abs(difference)) if len(difference) else 0.0
    return float(MAD_TO_SIGMA * middle / np.sqrt(2))


def quiet_noise(image: Values) -> float:
    """Return the least noise ``(y, x)`` can have, from the quietest pixels; 0 without any.

    Third differences along the rows are blind to the slopes and curves of large galaxies, and a
    fifth of the pixels is without light of sources in any field.
    """
    difference = np.abs(np.diff(image, n=3, axis=-1))
    difference = difference[np.isfinite(difference)]
    if len(difference) == 0:
        return 0.0
    return float(np.percentile(difference, 20) / (QUIET_FIFTH * np.sqrt(20)))
