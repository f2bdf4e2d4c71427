"""Cores of saturated stars: holes without any usable pixel, with several peaks on their rim."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.tile import BoolArray

_TOUCHING = np.ones((3, 3), dtype=bool)


def closed_cores(detected: BoolArray, blind: BoolArray) -> NDArray[np.int32]:
    """Return the holes of the detected regions ``(y, x)`` that are blind, numbered from 1.

    Parameters
    ----------
    blind
        ``(y, x)`` where no band has a usable pixel because of saturation.
    """
    if not blind.any():
        return np.zeros(detected.shape, dtype=np.int32)
    holes = ndimage.binary_fill_holes(detected) & ~detected & blind
    return np.asarray(ndimage.label(holes, structure=_TOUCHING)[0], dtype=np.int32)


def one_peak_a_core(
    cores: NDArray[np.int32], reach: int, peaks: NDArray[np.intp], xy: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the peaks with one at the middle of each core in place of those on its rim.

    The light of a star falls off from its core on all sides, so that noise and a bleed trail
    make several peaks about it.

    Parameters
    ----------
    cores
        ``(y, x)``, see `closed_cores`.
    reach
        Pixels from a core within which a peak is on its rim.
    peaks, xy
        ``(k, 2)`` as (y, x), and positions (x, y); the middle takes the place of the first.
    """
    if not cores.any() or not len(peaks):
        return peaks, xy
    rim = ndimage.maximum_filter(cores, size=2 * reach + 1)[tuple(peaks.T)]
    found, first = np.unique(rim, return_index=True)
    pixels, positions, kept = peaks.copy(), xy.copy(), rim == 0
    for core, place in zip(found[found > 0], first[found > 0], strict=True):
        pixels[place] = _middle(np.argwhere(cores == core))
        positions[place] = pixels[place][::-1]
        kept[place] = True
    return pixels[kept], positions[kept]


def _middle(pixels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the pixel of a region ``(n, 2)`` that is nearest to its center of mass."""
    away = np.square(pixels - pixels.mean(axis=0)).sum(axis=1)
    return np.asarray(pixels[np.argmin(away)])
