"""Pixels that are sharper than the PSF, as no light from the sky is: cosmic rays, hot pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.checks.config import CheckConfig
from raydeblend.tile import BoolArray, Tile


def count_sharp(tile: Tile, detected: BoolArray, config: CheckConfig) -> tuple[int, ...]:
    """Return how many pixels of each band stand out from their neighbors more than a star can.

    The peak of a star in the middle of a pixel is `peak_contrast` times the mean of its four
    neighbors, and nothing that comes through the PSF has more.

    Parameters
    ----------
    tile
        Pixels as they were read.
    detected
        ``(y, x)`` where they belong to a source.
    """
    return tuple(_count(tile, band, detected, config) for band in range(len(tile.image)))


def _count(tile: Tile, band: int, detected: BoolArray, config: CheckConfig) -> int:
    seen = ~tile.unusable[band]
    if not seen.any():
        return 0
    image = tile.image[band] - np.median(tile.image[band][seen])
    variance = tile.variance[band].astype(np.float64)
    most = config.sharp * max(map(peak_contrast, tile.psf.bands[band].stamps))
    excess = image - most * _neighbors(image).mean(axis=0)
    error = np.sqrt(variance + most**2 * _neighbors(variance).sum(axis=0) / 16)
    sharp = seen & _neighbors(seen).all(axis=0) & (excess > config.sharp_sigma * error)
    return int(np.sum(sharp & detected))


def peak_contrast(stamp: NDArray[np.floating]) -> float:
    """Return the middle pixel of a PSF over the mean of its four neighbors."""
    middle = tuple(n // 2 for n in stamp.shape)
    return float(stamp[middle] / _neighbors(stamp)[:, *middle].mean())


def _neighbors(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return the pixels above, below, left and right of each: ``(4, y, x)``."""
    around = np.pad(values, 1, mode="edge")
    return np.stack([around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]])
