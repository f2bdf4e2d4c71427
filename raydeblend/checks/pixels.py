"""What the pixels of a cell say of its variance and its masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.checks.config import PixelConfig
from raydeblend.tile import Blend, BoolArray, Box, Tile

FloatArray = NDArray[np.float64]

CENTRAL = (15.87, 84.13)
"""Percentiles a standard deviation from the middle."""
LOWEST = (2.28, 15.87)
"""Percentiles two standard deviations and one below the middle."""
ROUNDING = 1e-4
"""Relative difference of values that are the same multiple of a step, once scaled to nJy."""


@dataclass(frozen=True)
class PixelFacts:
    """Of each band; NaN where there is nothing to say it from.

    Attributes
    ----------
    usable
        Part of the pixels that are usable.
    noise
        Scatter of blank pixels over the square root of the variance.
    sky
        Level of the sky in sigma, by the lowest pixels: with much of it, no pixel is blank.
    rim
        Median signal to noise of pixels beside masked ones, saturated stars left out, over that of
        all usable pixels: if a galaxy fills the cell, there is light around every cosmic ray.
    bright
        Part of the usable pixels that is bright.
    constant
        Part of the usable pixels that is exactly 0, beyond what rounded values make of noise.
    hidden
        Part of the pixels with data, in and around the cell, that the mask rules out.
    """

    usable: FloatArray
    noise: FloatArray
    sky: FloatArray
    rim: FloatArray
    bright: FloatArray
    constant: FloatArray
    hidden: FloatArray


def pixel_facts(tile: Tile, inner: Box, detected: BoolArray, config: PixelConfig) -> PixelFacts:
    """Return what the pixels of a cell's inner region say.

    Parameters
    ----------
    tile
        As it was read.
    detected
        ``(y, x)`` which pixels of the region lie in a footprint, see `detected_pixels`.
    """
    part = tile.crop(inner)
    blank = ~ndimage.binary_dilation(detected, iterations=config.margin)
    saturated = ndimage.binary_dilation(part.saturated, iterations=config.saturation_margin)
    bands = [_band(part, band, blank, saturated, config) for band in range(len(part.image))]
    hidden = _hidden(tile, config)
    return PixelFacts(*np.array([*zip(*bands, strict=True), hidden], dtype=np.float64))


def _hidden(tile: Tile, config: PixelConfig) -> FloatArray:
    """Return the part of the pixels with data that is unusable in each band; NaN of few."""
    filled = np.array(tile.filled or np.zeros(len(tile.image)))
    usable = 1 - tile.unusable.mean(axis=(1, 2))
    return np.asarray(1 - usable / np.where(filled > config.least_filled, filled, np.nan))


def detected_pixels(box: Box, blends: Sequence[Blend]) -> BoolArray:
    """Tell ``(y, x)`` which pixels of a box lie in a footprint."""
    detected = np.zeros(box.shape, dtype=bool)
    for blend in blends:
        there = blend.box.clip(box)
        if min(there.shape) > 0:
            own = there.shift(-blend.box.y0, -blend.box.x0).slices
            detected[there.shift(-box.y0, -box.x0).slices] |= blend.footprint[own]
    return detected


def _band(
    tile: Tile, band: int, blank: BoolArray, saturated: BoolArray, config: PixelConfig
) -> tuple[float, float, float, float, float, float]:
    """Return the attributes of `PixelFacts` in one band."""
    seen = ~tile.unusable[band]
    if not seen.any():
        return 0.0, np.nan, np.nan, np.nan, np.nan, np.nan
    sky = tile.image[band][seen & blank]
    level = float(np.median(sky)) if len(sky) else 0.0
    sigma = np.sqrt(tile.variance[band])
    snr = (tile.image[band] - level) / sigma
    noise = _spread(snr[seen & blank]) if len(sky) >= config.fewest else np.nan
    beside = ndimage.binary_dilation(~seen & ~saturated, iterations=config.rim) & seen & ~saturated
    rim = np.nan
    if beside.sum() >= config.fewest_in_rim:
        rim = float(np.median(snr[beside]) - np.median(snr[seen]))
    bright = (
        float(np.mean(snr[seen] > config.bright)) if seen.sum() >= config.fewest_bright else np.nan
    )
    lowest = _sky(tile.image[band][seen] / sigma[seen], config.fewest)
    return float(seen.mean()), noise, lowest, rim, bright, _dead(tile.image[band], seen, config)


def _sky(snr: NDArray[np.floating], fewest: int) -> float:
    """Return the middle of the Gaussian that the lowest pixels belong to."""
    if len(snr) < fewest:
        return float("nan")
    lowest, low = np.percentile(snr, LOWEST)
    return float(2 * low - lowest)


def _dead(image: NDArray[np.floating], seen: BoolArray, config: PixelConfig) -> float:
    """Return the part of the usable pixels ``(y, x)`` that is 0 and not by rounding.

    Compressed images are rounded row by row: as many pixels then are 0 as are one step above.
    """
    zeros = np.sum(seen & (image == 0), axis=1)
    size = np.where(seen & (image != 0), np.abs(image), np.inf)
    step = size.min(axis=1, keepdims=True)
    # No two pixels of a row that is not rounded have the very same value.
    once, twice = (np.isclose(size, n * step, rtol=ROUNDING, atol=0).sum(axis=1) for n in (1, 2))
    is_rounded = np.isfinite(step[:, 0]) & (once > 1)
    first, second = (float(np.sum(count[is_rounded])) / 2 for count in (once, twice))
    # Of Gaussian noise ln n falls by the square of the value; steps that 0 is not one of, as of
    # counted electrons, have no double.
    is_step = second > config.least_double * first
    expected = first * max(first / second, 1.0) ** (1 / 3) if is_step else 0.0
    more = zeros.sum() - expected - config.chance * np.sqrt(1.5 * expected)
    return float(max(more, 0.0) / seen.sum())


def _spread(values: NDArray[np.floating]) -> float:
    low, high = np.percentile(values, CENTRAL)
    return float(high - low) / 2
