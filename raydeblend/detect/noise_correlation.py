"""How far the noise of neighboring pixels goes together, measured in a tile's blank sky.

Coadds are resampled: the noise of a pixel is that of the variance plane, but that of a sum over a
source is larger than of independent pixels.  What counts is the noise behind the matched filter of
a point source, in units of what independent pixels would have.  Sources too faint to be detected
ripple the filtered sky as well; they do so in all bands together, which noise does not, and their
part is taken out by the bands' covariance.  A single band cannot tell them from noise.
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

SQUARE = 4
"""Side in pixels of the squares in which sources are masked."""
MASKED = ((4.0, 8), (30.0, 20), (300.0, 44))
"""From which significance of all bands on so many pixels about a source are no blank sky."""
ROUNDS = 2
"""The significance is divided by the noise that the round before has found."""
FAINT = (5.0, 20.0)
"""Significance of the pixels of sources that tell how much of the light each band has."""
FEWEST = 400
"""So many times the area of the filter of blank sky tell the noise to 5 %; fewer tell nothing."""
FEWEST_FAINT = 50
CENTRAL = (15.865, 84.135)


@dataclass(frozen=True)
class BlankSky:
    """Filtered pixels of a part of a tile.

    Attributes
    ----------
    bands
        ``(bands, n)`` significances of blank sky in each band.
    faint
        ``(bands, m)`` the same of faint sources.
    area
        Pixels of the filter: blank sky has ``n / area`` independent values.
    usable
        ``(bands,)`` whether the band has pixels there.
    """

    bands: FloatArray
    faint: FloatArray
    area: float
    usable: BoolArray


def blank_sky(tile: Tile, realizations: Sequence[FloatArray | None]) -> BlankSky:
    """Filter a part of a tile and find its blank sky.

    Parameters
    ----------
    realizations
        Of each band an image ``(y, x)`` of noise alone that is drawn as the coadd's, where there
        is one.
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
    faint = (together > FAINT[0]) & (together < FAINT[1])
    return BlankSky(each[:, blank], each[:, faint], 4 * np.pi * width**2, present)


def _blank(significance: FloatArray) -> BoolArray:
    """Tell which pixels ``(y, x)`` have no detected source near."""
    blank = np.ones(significance.shape, dtype=bool)
    for _ in range(ROUNDS):
        noise = _spread(significance[blank]) if blank.any() else 1.0
        blank = ~_near_sources(significance / max(noise, 1.0))
    return blank


def _near_sources(significance: FloatArray) -> BoolArray:
    rows, columns = significance.shape
    pads = [(0, -n % SQUARE) for n in significance.shape]
    padded = np.pad(significance, pads)
    squares = padded.reshape(padded.shape[0] // SQUARE, SQUARE, -1, SQUARE).max(axis=(1, 3))
    near = np.zeros(squares.shape, dtype=bool)
    for threshold, reach in MASKED:
        size = 2 * (reach // SQUARE) + 1
        near |= ndimage.maximum_filter(squares, size, mode="nearest") > threshold
    return near.repeat(SQUARE, axis=0).repeat(SQUARE, axis=1)[:rows, :columns]


def noise_ratios(parts: Sequence[BlankSky], alone: Sequence[bool]) -> Array:
    """Return the noise on the scale of the PSF over that of independent pixels ``(bands,)``.

    NaN where too little blank sky was seen.

    Parameters
    ----------
    alone
        Which bands are of noise alone (`blank_sky`), without faint sources.
    """
    ratios = np.full(len(alone), np.nan)
    if not parts:
        return ratios
    known = np.array([_places(parts, band) >= FEWEST for band in range(len(alone))])
    variance = np.zeros(len(alone))
    for band in np.flatnonzero(known):
        variance[band] = _spread(_joined([p.bands[band] for p in parts if p.usable[band]])) ** 2
    seen = np.flatnonzero(known & ~np.array(alone))
    variance[seen] -= _of_faint_sources(parts, seen)
    ratios[known] = np.sqrt(np.maximum(variance[known], 0))
    return np.where(ratios > 0, ratios, np.nan)


def _places(parts: Sequence[BlankSky], band: int) -> float:
    return float(sum(p.bands.shape[1] / p.area for p in parts if p.usable[band]))


def _of_faint_sources(parts: Sequence[BlankSky], bands: NDArray[np.intp]) -> Array:
    """Return the variance that sources too faint to be detected add to each of some bands.

    They have the light of faint sources that are detected, in proportion k of the bands; the
    covariance of bands a and b is then s² k_a k_b.
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
    """Return the significance of faint sources in each band, in any unit."""
    faint = _joined([p.faint[bands] for p in parts])
    if faint.shape[1] < FEWEST_FAINT:
        return np.ones(len(bands))
    return np.maximum(np.median(faint, axis=1), 0.1)


def _joined(values: Sequence[FloatArray]) -> FloatArray:
    return np.concatenate(values, axis=-1)


def _covariance(one: FloatArray, other: FloatArray) -> float:
    return (_spread(one + other) ** 2 - _spread(one - other) ** 2) / 4


def _spread(values: FloatArray) -> float:
    """Return the standard deviation from the central 68 %, which artifacts hardly move."""
    low, high = np.percentile(values, CENTRAL)
    return float(high - low) / 2


def with_noise(tile: Tile, ratios: Sequence[float]) -> Tile:
    """Return the tile with the variance that sources meet, ``ratio²`` times that of a pixel."""
    factor = np.nan_to_num(np.asarray(ratios, dtype=np.float32), nan=1.0) ** 2
    return replace(tile, variance=tile.variance * factor[:, None, None])
