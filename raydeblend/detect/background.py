"""The sky that a coadd's own subtraction has left, tile by tile.

Sky is averaged over the pixels without sources in windows of 80 pixels, at nodes 16 pixels apart
that are fixed to the pixel grid of the projection, and interpolated between them.  No pixel
depends on others farther than `REACH`: with so many read around it, a region gets the same sky
however tiles and cells are cut.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.tile import BoolArray, FloatArray, Tile

Scalar = TypeVar("Scalar", bound=np.generic)

STEP = 16
"""Distance of the nodes in pixels."""
BLOCKS = 5
"""Side of the window about a node, in steps."""
WINDOW = BLOCKS * STEP

# Sources are sought in pixels of this many a side, fixed to that grid: a quarter of the work.
BIN = 2
# A source is where a difference of Gaussians, blind to a smooth sky, is off zero.  Both signs
# are taken, since masking only the positive noise would leave a negative mean.
FINE, COARSE = 2.0, 12.0
TRUNCATE = 2.0
SOURCE_SIGMA = 3.0
# The wings and halos that it does not see are still brighter than this, in sigma of a pixel.
BRIGHT = 0.7
GROW = 10
REACH = STEP + WINDOW // 2 + int(COARSE * TRUNCATE + 0.5) + GROW + BIN
"""Pixels: 92, which a cell reads beyond its border."""

THIN = 4
"""Medians are of every so manyth pixel along each axis."""

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
        np.subtract(image[band], _sky(tile, band, usable & ~source), out=image[band], where=usable)
    return replace(tile, image=image)


def _source_mask(tile: Tile, bands: list[int]) -> BoolArray:
    """Return ``(y, x)`` the pixels with light of sources in any band, grown by `GROW`."""
    origin, shape = grid_origin(tile), tile.image.shape[1:]
    source = np.zeros(_binned(np.zeros(shape, np.float32), origin).shape, dtype=bool)
    for band in bands:
        signal = np.where(tile.unusable[band], 0, tile.image[band] / np.sqrt(tile.variance[band]))
        fine, coarse = (
            ndimage.gaussian_filter(
                _binned(signal, origin), s / BIN, mode="nearest", truncate=TRUNCATE
            )
            for s in (FINE, COARSE)
        )
        # White noise of unit variance comes out of a Gaussian filter with 1 / (2 π^½ σ).
        source |= np.abs(fine - coarse) > SOURCE_SIGMA / (2 * np.sqrt(np.pi) * FINE)
        source |= fine > _offset(_some(signal)[~_some(tile.unusable[band])]) + BRIGHT
    grown = ndimage.maximum_filter(source, size=2 * GROW // BIN + 1, mode="constant")
    return _unbinned(grown, origin, shape)


def _binned(image: FloatArray, origin: tuple[int, int]) -> FloatArray:
    """Return the means over squares of `BIN` pixels; at the border the last pixel is repeated."""
    pads = [(start % BIN, -(n + start) % BIN) for n, start in zip(image.shape, origin, strict=True)]
    padded = np.pad(image, pads, mode="edge")
    corners = [padded[y::BIN, x::BIN] for y in range(BIN) for x in range(BIN)]
    return np.asarray(sum(corners[1:], corners[0]) / np.float32(BIN**2))


def _unbinned(mask: BoolArray, origin: tuple[int, int], shape: tuple[int, ...]) -> BoolArray:
    y0, x0 = (start % BIN for start in origin)
    full = mask.repeat(BIN, axis=0).repeat(BIN, axis=1)
    return np.asarray(full[y0 : y0 + shape[0], x0 : x0 + shape[1]])


def _some(values: NDArray[Scalar]) -> NDArray[Scalar]:
    """Return every `THIN`-th pixel of an image along each axis; all of a small one."""
    return values[::THIN, ::THIN] if min(values.shape) >= WINDOW else values


def _sky(tile: Tile, band: int, good: BoolArray) -> FloatArray:
    """Return the sky ``(y, x)`` from the good pixels of a band."""
    image = tile.image[band]
    sigma = np.sqrt(np.median(_some(tile.variance[band])))
    usable = ~_some(tile.unusable[band])
    # Where every chosen pixel is unusable, the sky is taken to be subtracted.
    start = np.float32(sigma * _offset(_some(image)[usable] / sigma))
    excess = np.where(good, image - start, np.float32(0))
    if min(image.shape) < WINDOW:
        total = excess.sum(dtype=np.float64) / (good.sum() + HOLD)
        return np.full(image.shape, start + total, dtype=np.float32)
    origin = grid_origin(tile)
    total, count = (_window_sums(a, origin) for a in (excess, good))
    nodes = start + total / (count + HOLD)
    return _interpolate(nodes, origin, image.shape)


def grid_origin(tile: Tile) -> tuple[int, int]:
    """Return row and column of the first pixel on the pixel grid that tiles of a projection share.

    It starts at the reference pixel of the WCS, so that tiles of one grid have the same nodes.
    """
    cards = fits.Header.fromstring(tile.header.wcs)
    y, x = (round(1 - cards.get(name, 1.0)) for name in ("CRPIX2", "CRPIX1"))
    return tile.box.y0 + y, tile.box.x0 + x


def _offset(values: NDArray[np.floating]) -> float:
    """Return the median, but 0 below half a sigma, for images that are sky-subtracted.

    For these it is then the same in every cut of a tile.
    """
    median = float(np.median(values)) if len(values) else 0.0
    return median if abs(median) > 0.5 else 0.0


def _window_sums(values: FloatArray | BoolArray, origin: tuple[int, int]) -> NDArray[np.float64]:
    """Return sums over the window about each node; ``(node y, node x)``."""
    pads = [
        (start % STEP, -(n + start) % STEP) for n, start in zip(values.shape, origin, strict=True)
    ]
    padded = np.pad(values, pads)
    rows, cols = (n // STEP for n in padded.shape)
    blocks = (
        padded.reshape(rows, STEP, cols, STEP).sum(1, dtype=np.float32).sum(2, dtype=np.float64)
    )
    for axis in (0, 1):
        blocks = ndimage.convolve1d(blocks, np.ones(BLOCKS), axis=axis, mode="constant")
    return np.asarray(blocks)


def _interpolate(
    nodes: NDArray[np.float64], origin: tuple[int, int], shape: tuple[int, ...]
) -> FloatArray:
    """Return the bilinear interpolation of the nodes at every pixel, constant beyond them."""
    values = nodes.astype(np.float32)
    for axis in (0, 1):
        middle = (np.arange(shape[axis]) + origin[axis] % STEP - (STEP - 1) / 2) / STEP
        place = np.clip(middle, 0, nodes.shape[axis] - 1)
        low = np.minimum(place.astype(int), max(nodes.shape[axis] - 2, 0))
        high = np.minimum(low + 1, nodes.shape[axis] - 1)
        part = (place - low).astype(np.float32).reshape((-1, 1) if axis == 0 else (1, -1))
        below, above = values.take(low, axis), values.take(high, axis)
        values = below + part * (above - below)
    return values
