"""From a user's stamps to those that a deblender works on: in noise units, without holes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from raydeblend.deblend.holes import fill_from_bands, holes_of
from raydeblend.detect.noise import difference_noise
from raydeblend.errors import ConfigError
from raydeblend.tile import BoolArray, FloatArray

BATCH_PIXELS = 2**16
"""Pixels of all stamps that go through the network together on a CPU: the maps of 2**19 no longer
fit its caches, and cost the RDN a fifth more."""
GPU_BATCH_PIXELS = 2**24
"""Pixels that go through the network together on a GPU, whose memory they must fit."""


@dataclass(frozen=True)
class PreparationConfig:
    """How stamps are made ready.

    Attributes
    ----------
    noise_floor
        Least noise of a stamp, as a fraction of its brightest pixel: noiseless images have none.
    hole_sigma
        Width in pixels of the kernel that fills masked pixels from their neighbors.
    """

    noise_floor: float = 1e-3
    hole_sigma: float = 1.5


PREPARATION = PreparationConfig()


@dataclass(frozen=True)
class Prepared:
    """A batch of stamps made ready.

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

    def take(self, index: slice | NDArray[np.intp]) -> Prepared:
        """Return the chosen stamps."""
        return Prepared(*(array[index] for array in vars(self).values()))


def prepare(
    images: ArrayLike, variance: ArrayLike | None = None, mask: ArrayLike | None = None
) -> Prepared:
    """Put stamps ``(n, bands, y, x)`` in noise units and fill their masked pixels.

    `variance` has the same shape; without it the noise is estimated from differences of
    neighboring pixels.  `mask` is ``(n, bands, y, x)``, true where unusable, or ``(n, y, x)`` for
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
        sigma = np.sqrt(_median(spread, bad))
        weight = np.asarray(sigma**2 / np.where(bad, 1, spread), dtype=np.float32)
    missing = np.asarray(bad.all(axis=(2, 3)))
    image[bad] = 0
    peak = np.abs(image).max(axis=(2, 3), keepdims=True)
    sigma = np.maximum(sigma, np.where(peak > 0, PREPARATION.noise_floor * peak, 1.0)).astype(
        np.float32
    )
    return Prepared(_fill(image / sigma, bad), np.where(bad, 0, weight), sigma, missing)


def batch_rows(stamps: Prepared, on_cpu: bool) -> list[slice]:
    """Cut a batch so that its pixels fit the caches of a CPU or the memory of a GPU."""
    pixels = stamps.image.shape[2] * stamps.image.shape[3]
    size = max(1, (BATCH_PIXELS if on_cpu else GPU_BATCH_PIXELS) // pixels)
    return [slice(i, i + size) for i in range(0, len(stamps.image), size)]


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


def _median(values: FloatArray, bad: BoolArray) -> NDArray[np.floating]:
    """Median over the pixels that are not bad, ``(n, bands, 1, 1)``; 0 where there is none."""
    if not bad.any():
        return np.asarray(np.median(values, axis=(2, 3), keepdims=True))
    # `np.nanmedian` takes images one after the other, for much longer.
    known = np.sort(np.where(bad, np.inf, values).reshape(*values.shape[:2], -1))
    count = (~bad).sum(axis=(2, 3))[..., np.newaxis]
    middle = np.concatenate([np.maximum(count - 1, 0) // 2, count // 2], axis=2)
    median = np.take_along_axis(known, middle, axis=2).mean(axis=2, dtype=np.float64)
    return np.where(np.isfinite(median), median, 0)[..., np.newaxis, np.newaxis]


def _fill(image: FloatArray, bad: BoolArray) -> FloatArray:
    """Fill unusable pixels: from the other bands if these are good there, else from near ones."""
    filled = _fill_holes(image, bad)
    for row in np.flatnonzero((bad != bad.all(axis=1, keepdims=True)).any(axis=(1, 2, 3))):
        filled[row] = fill_from_bands(filled[row], bad[row])
    return filled


def _fill_holes(image: FloatArray, bad: BoolArray) -> FloatArray:
    """Fill unusable pixels with a weighted mean of the usable ones near them, else 0."""
    rows = np.flatnonzero(bad.any(axis=(1, 2, 3)))
    if not len(rows):
        return image
    filled, holes = image.copy(), bad[rows]
    smooth = [0, 0, PREPARATION.hole_sigma, PREPARATION.hole_sigma]
    usable = (~holes).astype(np.float32)
    near = gaussian_filter(usable, smooth, truncate=2.5)
    mean = gaussian_filter(image[rows] * usable, smooth, truncate=2.5) / np.maximum(near, 1e-3)
    filled[rows] = np.where(holes, np.where(near > 1e-2, mean, 0), image[rows])
    return filled
