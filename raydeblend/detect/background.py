"""The sky that a coadd's own subtraction has left, tile by tile.

Sky is averaged over the pixels without sources in windows of 80 pixels, at nodes 16 pixels apart
that are fixed to the tile's pixel grid, and interpolated between them.  No pixel depends on
others farther than `REACH`, so that a cell with a border of that width gets the same sky however
the tile is cut.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.tile import BoolArray, FloatArray, Tile

STEP = 16
"""Distance of the nodes in pixels."""
BLOCKS = 5
"""Side of the window about a node, in steps."""
WINDOW = BLOCKS * STEP

# A source is where a difference of Gaussians, blind to a smooth sky, is off zero.  Both signs
# are taken, since masking only the positive noise would leave a negative mean.
FINE, COARSE = 2.0, 12.0
TRUNCATE = 2.0
SOURCE_SIGMA = 3.0
# The wings and halos that it does not see are still brighter than this, in sigma of a pixel.
BRIGHT = 0.7
GROW = 9
REACH = STEP + WINDOW // 2 + int(COARSE * TRUNCATE + 0.5) + GROW
"""Pixels: 89, within the border of 96 that cells have by default."""

# As many imaginary pixels of unchanged sky hold the value where sources leave few real ones.
HOLD = 0.05 * WINDOW**2


def subtract_background(tile: Tile) -> Tile:
    """Return the tile with its remaining sky subtracted, band by band.

    Fields smaller than a window get one constant.  Bands without usable pixels stay as they are.
    """
    present = [band for band in range(len(tile.image)) if not tile.unusable[band].all()]
    image = tile.image.copy()
    source = _source_mask(tile, present)
    for band in present:
        usable = ~tile.unusable[band]
        sky = _sky(tile, band, usable & ~source)
        image[band][usable] -= sky[usable]
    return replace(tile, image=image)


def _source_mask(tile: Tile, bands: list[int]) -> BoolArray:
    """Return ``(y, x)`` the pixels with light of sources in any band, grown by `GROW`."""
    source = np.zeros(tile.image.shape[1:], dtype=bool)
    for band in bands:
        signal = np.where(tile.unusable[band], 0, tile.image[band] / np.sqrt(tile.variance[band]))
        fine, coarse = (
            ndimage.gaussian_filter(signal, s, mode="nearest", truncate=TRUNCATE)
            for s in (FINE, COARSE)
        )
        # White noise of unit variance comes out of a Gaussian filter with 1 / (2 π^½ σ).
        source |= np.abs(fine - coarse) > SOURCE_SIGMA / (2 * np.sqrt(np.pi) * FINE)
        source |= fine > _offset(signal[~tile.unusable[band]]) + BRIGHT
    return np.asarray(ndimage.maximum_filter(source, size=2 * GROW + 1, mode="constant"))


def _sky(tile: Tile, band: int, good: BoolArray) -> FloatArray:
    """Return the sky ``(y, x)`` from the good pixels of a band."""
    image = tile.image[band].astype(float)
    sigma = float(np.sqrt(np.median(tile.variance[band])))
    start = sigma * _offset(image[~tile.unusable[band]] / sigma)
    excess = np.where(good, image - start, 0.0)
    if min(image.shape) < WINDOW:
        return np.full(image.shape, start + excess.sum() / (good.sum() + HOLD), dtype=np.float32)
    origin = tile.box.y0, tile.box.x0
    total, count = (_window_sums(a, origin) for a in (excess, good.astype(float)))
    nodes = start + total / (count + HOLD)
    return _interpolate(nodes, origin, image.shape).astype(np.float32)


def _offset(values: NDArray[np.floating]) -> float:
    """Return the median, but 0 below half a sigma, for images that are sky-subtracted.

    For these it is then the same in every cut of a tile.
    """
    median = float(np.median(values))
    return median if abs(median) > 0.5 else 0.0


def _window_sums(values: NDArray[np.float64], origin: tuple[int, int]) -> NDArray[np.float64]:
    """Return sums over the window about each node; ``(node y, node x)``."""
    before = [start % STEP for start in origin]
    pads = [(b, -(n + b) % STEP) for b, n in zip(before, values.shape, strict=True)]
    padded = np.pad(values, pads)
    rows, cols = (n // STEP for n in padded.shape)
    blocks = padded.reshape(rows, STEP, cols, STEP).sum(3).sum(1)
    for axis in (0, 1):
        blocks = ndimage.convolve1d(blocks, np.ones(BLOCKS), axis=axis, mode="constant")
    return np.asarray(blocks)


def _interpolate(
    nodes: NDArray[np.float64], origin: tuple[int, int], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return the bilinear interpolation of the nodes at every pixel, constant beyond them."""
    middle = (STEP - 1) / 2
    y, x = (
        (np.arange(n) + start % STEP - middle) / STEP
        for n, start in zip(shape, origin, strict=True)
    )
    grid = np.meshgrid(y, x, indexing="ij")
    return np.asarray(ndimage.map_coordinates(nodes, grid, order=1, mode="nearest"))
