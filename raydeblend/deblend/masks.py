"""The mask that a deblender is given: one for each band, if it takes them."""

from __future__ import annotations

import numpy as np

from raydeblend.tile import BoolArray, Deblender


def mask_for(deblender: Deblender, unusable: BoolArray) -> BoolArray:
    """Return the mask of stamps as a deblender takes it; see `raydeblend.tile.Deblender`.

    `unusable` is ``(n, bands, y, x)``; so is the result where the deblender has `band_masks`, else
    it is `merge_bands` of it.
    """
    return unusable if getattr(deblender, "band_masks", False) else merge_bands(unusable)


def merge_bands(unusable: BoolArray) -> BoolArray:
    """Return the mask ``(n, y, x)`` of pixels that are unusable in any band.

    A band without one usable pixel in a stamp masks nothing, so that it does not spoil the others.
    """
    missing = unusable.all(axis=(2, 3), keepdims=True)
    return np.asarray((unusable & ~missing).any(axis=1) | unusable.all(axis=1))
