"""Sources of a footprint, each in a pixel of its own: from that pixel its identifier is made."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.tile import Blend, BoolArray, FloatArray


def distinct_models(
    blend: Blend, models: FloatArray, xy: FloatArray
) -> tuple[FloatArray, FloatArray, NDArray[np.intp]]:
    """Drop sources outside the footprint and add up those that share a pixel.

    Returns models, positions and the index of each in the input, the brightest of those added up.

    Footprints do not overlap, so a source then has a pixel of its tile to itself, from which
    its identifier is made.
    """
    kept, number = distinct_sources(blend, xy)
    summed = models[kept].astype(np.float32, copy=False)
    for extra in np.setdiff1d(np.flatnonzero(number >= 0), kept):
        summed[number[extra]] += models[extra]
    return summed, np.asarray(xy[kept], dtype=np.float32), kept


def distinct_sources(blend: Blend, xy: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Tell which sources are left when those in one pixel are one.

    Returns
    -------
    kept
        Index of each that is left, in the order given.
    number
        ``(k,)`` to which of `kept` each belongs; -1 outside the footprint.
    """
    inside = _in_footprint(blend, xy)
    x, y = peak_pixels(xy[inside]).T
    pixels = y * blend.footprint.shape[1] + x
    _, first, group = np.unique(pixels, return_index=True, return_inverse=True)
    # np.unique sorts by pixel; the order by brightness is that of first appearance.
    order = np.argsort(first)
    number = np.full(len(xy), -1)
    number[inside] = np.argsort(order)[group]
    return np.flatnonzero(inside)[first[order]], number


def _in_footprint(blend: Blend, xy: FloatArray) -> BoolArray:
    height, width = blend.footprint.shape
    finite = np.asarray(np.isfinite(xy).all(axis=1))
    x, y = peak_pixels(np.where(finite[:, np.newaxis], xy, -1)).T
    inside: BoolArray = finite & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    inside[inside] = blend.footprint[y[inside], x[inside]]
    return inside


def peak_pixels(xy: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the pixel ``(n, 2)`` (x, y) that each position lies in."""
    return np.asarray(np.floor(np.asarray(xy, dtype=np.float64) + 0.5), dtype=np.int64)
