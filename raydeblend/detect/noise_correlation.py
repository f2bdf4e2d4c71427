"""The correlation of the noise of neighboring pixels, measured in a tile's blank sky.

Coadds are resampled: the variance plane is right for single pixels, but sums over a source have
more noise than they would with independent pixels.  The measure of this is the noise of the image
convolved with the matched filter of a point source, in units of that of independent pixels.
Sources too faint to be detected add to the scatter of the filtered sky, but unlike noise they do
so in all bands at once, so their part follows from the covariance of the bands and is subtracted.
With a single band it cannot be distinguished from noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.detect.background import subtract_background
from raydeblend.detect.footprints import matched_filter, psf_width
from raydeblend.tile import BoolArray, FloatArray, Tile

Array = NDArray[np.float64]

CENTRAL_68 = (15.865, 84.135)
"""Percentiles."""


@dataclass(frozen=True)
class NoiseConfig:
    """How the noise is measured.

    Attributes
    ----------
    boxes, box_side
        Number of boxes along each axis of a tile, evenly spaced, and their side in pixels.
    square
        Side in pixels of the squares in which sources are masked.
    masked
        Pairs of a significance in all bands and the pixels masked around where it is exceeded.
    rounds
        Rounds of masking, each with the significance divided by the noise found in the last one.
    faint
        Range of significance of the pixels that give the relative fluxes of faint sources.
    least_areas
        Least blank sky, in areas of the filter: 400 determine the noise to 5 %.
    least_faint
        Fewest pixels of faint sources; with fewer, their fluxes are assumed equal in all bands.
    """

    boxes: int = 3
    box_side: int = 320
    square: int = 4
    masked: tuple[tuple[float, int], ...] = ((4.0, 8), (30.0, 20), (300.0, 44))
    rounds: int = 2
    faint: tuple[float, float] = (5.0, 20.0)
    least_areas: int = 400
    least_faint: int = 50


NOISE = NoiseConfig()


@dataclass(frozen=True)
class BlankSky:
    """Filtered pixels of one box of a tile.

    Attributes
    ----------
    bands
        ``(bands, n)`` significances of blank sky in each band.
    faint
        ``(bands, m)`` the same of faint sources.
    area
        Area of the filter in pixels: blank sky has ``n / area`` independent values.
    usable
        ``(bands,)`` whether the band has pixels there.
    """

    bands: FloatArray
    faint: FloatArray
    area: float
    usable: BoolArray


def blank_sky(tile: Tile, realizations: Sequence[FloatArray | None]) -> BlankSky:
    """Filter one box of a tile and find its blank sky.

    Parameters
    ----------
    realizations
        For each band, an image ``(y, x)`` of noise alone with the correlation of the coadd's, or
        None.
    """
    width = psf_width(tile)
    clean = subtract_background(tile)
    inverse = np.where(tile.unusable, 0.0, 1.0 / tile.variance)
    together = matched_filter(clean.image, inverse, width)
    images = [
        image if noise is None else np.where(np.isfinite(noise), noise, 0)
        for image, noise in zip(clean.image, realizations, strict=True)
    ]
    each = np.stack(
        [matched_filter(i[None], w[None], width) for i, w in zip(images, inverse, strict=True)]
    )
    present = np.asarray(~tile.unusable.all(axis=(1, 2)))
    blank = _blank(together) & ~tile.unusable[present].any(axis=0)
    low, high = NOISE.faint
    faint = (together > low) & (together < high)
    return BlankSky(each[:, blank], each[:, faint], 4 * np.pi * width**2, present)


def _blank(significance: FloatArray) -> BoolArray:
    """Return which pixels ``(y, x)`` have no detected source nearby."""
    blank = np.ones(significance.shape, dtype=bool)
    for _ in range(NOISE.rounds):
        noise = _spread(significance[blank]) if blank.any() else 1.0
        blank = ~_near_sources(significance / max(noise, 1.0))
    return blank


def _near_sources(significance: FloatArray) -> BoolArray:
    rows, columns = significance.shape
    side = NOISE.square
    padded = np.pad(significance, [(0, -n % side) for n in significance.shape])
    squares = padded.reshape(padded.shape[0] // side, side, -1, side).max(axis=(1, 3))
    near = np.zeros(squares.shape, dtype=bool)
    for threshold, reach in NOISE.masked:
        size = 2 * (reach // side) + 1
        near |= ndimage.maximum_filter(squares, size, mode="nearest") > threshold
    return near.repeat(side, axis=0).repeat(side, axis=1)[:rows, :columns]


def noise_ratios(parts: Sequence[BlankSky], alone: Sequence[bool]) -> Array:
    """Return the noise on the scale of the PSF over that of independent pixels ``(bands,)``.

    NaN for bands with too little blank sky.

    Parameters
    ----------
    parts
        The boxes of a tile.
    alone
        ``(bands,)`` whether a band's values come from an image of noise alone (`blank_sky`).
    """
    ratios = np.full(len(alone), np.nan)
    if not parts:
        return ratios
    known = np.array([_areas(parts, band) >= NOISE.least_areas for band in range(len(alone))])
    variance = np.zeros(len(alone))
    for band in np.flatnonzero(known):
        variance[band] = _spread(_joined([p.bands[band] for p in parts if p.usable[band]])) ** 2
    seen = np.flatnonzero(known & ~np.array(alone))
    variance[seen] -= _of_faint_sources(parts, seen)
    ratios[known] = np.sqrt(np.maximum(variance[known], 0))
    return np.where(ratios > 0, ratios, np.nan)


def _areas(parts: Sequence[BlankSky], band: int) -> float:
    """Return the blank sky of a band in areas of the filter."""
    return float(sum(p.bands.shape[1] / p.area for p in parts if p.usable[band]))


def _of_faint_sources(parts: Sequence[BlankSky], bands: NDArray[np.intp]) -> Array:
    """Return the variance that undetected sources add to each of some bands.

    They are assumed to have the colors of faint detected sources, whose light in band a is
    proportional to k_a; the covariance of bands a and b is then s² k_a k_b.
    """
    both = [p for p in parts if p.usable[bands].all()]
    if len(bands) < 2 or not both:
        return np.zeros(len(bands))
    share = _shares(both, bands)
    sky = _joined([p.bands[bands] for p in both])
    pairs = list(combinations(range(len(bands)), 2))
    product = np.array([share[a] * share[b] for a, b in pairs])
    covariance = np.array([_covariance(sky[a], sky[b]) for a, b in pairs])
    strength = max(float(covariance @ product / (product @ product)), 0.0)
    return np.asarray(strength * share**2)


def _shares(parts: Sequence[BlankSky], bands: NDArray[np.intp]) -> Array:
    """Return the relative significance of faint sources in each band."""
    faint = _joined([p.faint[bands] for p in parts])
    if faint.shape[1] < NOISE.least_faint:
        return np.ones(len(bands))
    return np.maximum(np.median(faint, axis=1), 0.1)


def _joined(values: Sequence[FloatArray]) -> FloatArray:
    return np.concatenate(values, axis=-1)


def _covariance(one: FloatArray, other: FloatArray) -> float:
    return (_spread(one + other) ** 2 - _spread(one - other) ** 2) / 4


def _spread(values: FloatArray) -> float:
    """Return the standard deviation from the central 68 %, which is robust against artifacts."""
    low, high = np.percentile(values, CENTRAL_68)
    return float(high - low) / 2


def with_noise(tile: Tile, ratios: Sequence[float]) -> Tile:
    """Return the tile with the variance on the scale of sources, ``ratio²`` times a pixel's."""
    factor = np.nan_to_num(np.asarray(ratios, dtype=np.float32), nan=1.0) ** 2
    return replace(tile, variance=tile.variance * factor[:, None, None])
