"""From a user's stamps to what a network sees: noise units, the network's bands, no holes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from raydeblend.deblend.holes import fill_from_bands, holes_of
from raydeblend.detect.footprints import (
    DetectConfig,
    gaussian_width,
    matched_filter,
    significant_peaks,
)
from raydeblend.detect.noise import difference_noise
from raydeblend.errors import ConfigError
from raydeblend.tile import BoolArray, FloatArray

# Effective wavelengths in nm, to find the nearest band that a network knows.
WAVELENGTHS = {"u": 368, "g": 486, "r": 625, "i": 756, "z": 870, "y": 972}
BATCH_PIXELS = 2**16
"""Pixels of all stamps that go through the network together on a CPU: the maps of 2**19 no longer
fit its caches, and cost the RDN a fifth more."""
GPU_BATCH_PIXELS = 2**24
"""The same on a GPU; bounds the memory."""
NOISE_FLOOR = 1e-3
"""Least noise of a stamp, as a fraction of its brightest pixel: noiseless images have none."""
DETECT = DetectConfig()
PSF_WIDTH = 1.5
"""Pixels (sigma) where no PSF is given: HSC's i band in median seeing."""
HOLE_SIGMA = 1.5
"""Width in pixels of the kernel that fills masked pixels from their neighbours."""


@dataclass(frozen=True)
class Stamps:
    """A batch made ready.

    Attributes
    ----------
    image
        ``(n, bands, y, x)`` in noise units, holes filled.
    weight
        ``(n, bands, y, x)`` inverse variance in noise units, 0 where unusable.
    sigma
        ``(n, bands, 1, 1)`` noise in the user's unit.
    missing
        ``(n, bands)`` true where a band has no usable pixel.
    """

    image: FloatArray
    weight: FloatArray
    sigma: FloatArray
    missing: BoolArray

    @property
    def holes(self) -> BoolArray:
        """Pixels ``(n, bands, y, x)`` that are bad in a band and good in another."""
        return holes_of(self.weight)

    def take(self, index: slice | NDArray[np.intp]) -> Stamps:
        """Return the chosen stamps."""
        return Stamps(*(array[index] for array in vars(self).values()))


def prepare(
    images: ArrayLike, variance: ArrayLike | None = None, mask: ArrayLike | None = None
) -> Stamps:
    """Put stamps ``(n, bands, y, x)`` in noise units and fill their masked pixels.

    `variance` has the same shape; without it the noise is estimated from differences of
    neighbouring pixels.  `mask` is ``(n, bands, y, x)``, true where unusable, or ``(n, y, x)`` for
    all bands alike; pixels that are not finite or whose variance is not positive and finite are
    unusable too, in their band alone.

    Raises
    ------
    ConfigError
        If the shapes do not agree.
    """
    image = np.array(images, dtype=np.float32)
    if image.ndim != 4:
        raise ConfigError(f"images must be (n, bands, y, x), not of shape {image.shape}")
    bad = ~np.isfinite(image)
    if mask is not None:
        bad |= _mask_of_bands(mask, image.shape)
    if variance is None:
        sigma = difference_noise(np.where(bad, np.nan, image))[..., None, None]
        weight = np.ones_like(image)
    else:
        spread = _as_shape(variance, image.shape, "variance").astype(np.float32)
        bad |= ~(np.isfinite(spread) & (spread > 0))
        sigma = np.sqrt(_median(np.where(bad, np.nan, spread)))
        weight = np.asarray(sigma**2 / np.where(bad, 1, spread), dtype=np.float32)
    missing = np.asarray(bad.all(axis=(2, 3)))
    image[bad] = 0
    peak = np.abs(image).max(axis=(2, 3), keepdims=True)
    sigma = np.maximum(sigma, np.where(peak > 0, NOISE_FLOOR * peak, 1.0)).astype(np.float32)
    return Stamps(_fill(image / sigma, bad), np.where(bad, 0, weight), sigma, missing)


def choose_bands(given: Sequence[str] | None, n_bands: int, known: Sequence[str]) -> list[int]:
    """Return which of the `given` bands stands for each of a network's `known` bands.

    A band that was not given is replaced by the nearest in wavelength.  Without names, as many
    bands as the network has are taken to be those, and any other number to be evenly spread.

    Raises
    ------
    ConfigError
        If the number of names is not that of the bands.
    """
    if given is None:
        return [int(b) for b in np.linspace(0, n_bands - 1, len(known)).round()]
    if len(given) != n_bands:
        raise ConfigError(f"{len(given)} bands are named but the images have {n_bands}")
    return [list(given).index(band) if band in given else _nearest(band, given) for band in known]


def nearest_channels(chosen: Sequence[int], bands: int) -> list[int]:
    """Return the network's channel nearest to each of the user's `bands`, its own if it has one."""
    return [int(np.argmin([abs(band - other) for other in chosen])) for band in range(bands)]


def network_image(stamps: Stamps, chosen: list[int]) -> FloatArray:
    """Pick the network's bands; one without usable pixels is replaced by another of the stamp."""
    image = stamps.image[:, chosen].copy()
    for row in np.flatnonzero(stamps.missing.any(axis=1)):
        there = [b for b in range(len(stamps.missing[row])) if not stamps.missing[row, b]]
        for channel, band in enumerate(chosen):
            if stamps.missing[row, band] and there:
                nearest = min(there, key=lambda b, band=band: abs(b - band))  # type: ignore[misc]
                image[row, channel] = stamps.image[row, nearest]
    return image


def find_stamp_peaks(stamps: Stamps, psf: ArrayLike | None) -> list[NDArray[np.float64]]:
    """Return the peaks ``(m, 2)`` (x, y) of each stamp, the highest first.

    `psf` is ``(bands, py, px)`` or ``(n, bands, py, px)``; without it a usual seeing is taken.
    """
    widths = psf_widths(psf, len(stamps.image))
    return [stamp_peaks(*each) for each in zip(stamps.image, stamps.weight, widths, strict=True)]


def stamp_peaks(image: FloatArray, weight: FloatArray, width: float) -> NDArray[np.float64]:
    """Return the peaks ``(m, 2)`` (x, y) of one stamp, the highest first.

    Parameters
    ----------
    image, weight
        ``(bands, y, x)`` in noise units, and the inverse variance.
    width
        Of the PSF in pixels (sigma).
    """
    return significant_peaks(matched_filter(image, weight, width), width, DETECT)[1]


def psf_widths(psf: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """Return the width (sigma, pixels) of a Gaussian as high as the PSF of each stamp."""
    if psf is None:
        return np.full(n, PSF_WIDTH)
    given = np.asarray(psf, dtype=np.float64)
    each = given if given.ndim == 4 else given[np.newaxis]
    return np.broadcast_to([gaussian_width(list(bands)) for bands in each], (n,))


def split_batches(stamps: Stamps, on_cpu: bool) -> list[Stamps]:
    """Cut a batch so that its pixels fit the memory of a CPU or a GPU."""
    pixels = stamps.image.shape[2] * stamps.image.shape[3]
    size = max(1, (BATCH_PIXELS if on_cpu else GPU_BATCH_PIXELS) // pixels)
    rows = range(0, len(stamps.image), size)
    return [stamps.take(slice(i, i + size)) for i in rows]


def _nearest(band: str, given: Sequence[str]) -> int:
    target = WAVELENGTHS.get(band, WAVELENGTHS["i"])
    distance = [abs(WAVELENGTHS.get(other, WAVELENGTHS["i"]) - target) for other in given]
    return int(np.argmin(distance))


def _as_shape(values: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.generic]:
    array = np.asarray(values)
    if array.shape != shape:
        raise ConfigError(f"{name} must have shape {shape}, not {array.shape}")
    return array


def _mask_of_bands(mask: ArrayLike, shape: tuple[int, ...]) -> BoolArray:
    """Return a mask for each band, or for all alike, as one ``(n, bands or 1, y, x)``."""
    given = np.asarray(mask)
    if given.ndim == 3:
        return _as_shape(given, (shape[0], *shape[2:]), "mask")[:, None].astype(bool)
    return _as_shape(given, shape, "mask").astype(bool)


def _median(values: FloatArray) -> FloatArray:
    """Median over pixels, ``(n, bands, 1, 1)``; 0 where there is none."""
    usable = np.isfinite(values).any(axis=(2, 3), keepdims=True)
    return np.asarray(np.nanmedian(np.where(usable, values, 0), axis=(2, 3), keepdims=True))


def _fill(image: FloatArray, bad: BoolArray) -> FloatArray:
    """Fill unusable pixels: from the other bands if these are good there, else from near ones."""
    filled = _fill_holes(image, bad)
    for row in np.flatnonzero((bad != bad.all(axis=1, keepdims=True)).any(axis=(1, 2, 3))):
        filled[row] = fill_from_bands(filled[row], bad[row])
    return filled


def _fill_holes(image: FloatArray, bad: BoolArray) -> FloatArray:
    """Fill unusable pixels with a weighted mean of the usable ones near them, else 0."""
    if not bad.any():
        return image
    smooth = [0, 0, HOLE_SIGMA, HOLE_SIGMA]
    usable = (~bad).astype(np.float32)
    near = gaussian_filter(usable, smooth, truncate=2.5)
    mean = gaussian_filter(image * usable, smooth, truncate=2.5) / np.maximum(near, 1e-3)
    return np.where(bad, np.where(near > 1e-2, mean, 0), image).astype(np.float32)
