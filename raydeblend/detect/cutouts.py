"""Footprints cut out as Blends."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.detect.ids import source_id
from raydeblend.flags import Flag
from raydeblend.tile import Blend, BoolArray, Box, FloatArray, Tile

Scalar = TypeVar("Scalar", bound=np.generic)

SIZES = (32, 48, 64, 80, 96, 128, 160, 192, 256)
"""Sides of stamps, so that networks see few different shapes; larger ones keep their own."""
GUARD = 40
"""Pixels from the edge of the region read, where the tile goes on, within which a footprint or
what its stamp shows of others may depend on how the tile was cut: the detection's filters reach
over 28, a stamp of standard size over its margin and up to 16 more."""


def cut_blend(
    tile: Tile,
    cores: FloatArray,
    labels: NDArray[np.int32],
    label: int,
    bounds: tuple[slice, slice],
    peaks: NDArray[np.intp],
    xy: NDArray[np.float64],
    margin: int,
) -> Blend:
    """Cut one footprint out of a tile.

    Parameters
    ----------
    cores
        ``(bands, y, x)`` light that the masks of saturated stars hide.
    labels
        ``(y, x)`` footprints by number, 0 where there is none.
    bounds
        The footprint's bounding box in pixels of `labels`.
    peaks
        ``(k, 2)`` its peak pixels (y, x), brightest first.
    xy
        ``(k, 2)`` its sub-pixel peaks (x, y).
    margin
        Pixels about the bounding box.
    """
    box = _stamp_box(bounds, margin)
    own = _window(labels, box, 0)
    footprint = own == label
    blocked = (own != 0) & ~footprint
    unusable = _window(tile.unusable, box, True)
    y, x = peaks[0]
    return Blend(
        parent_id=source_id(tile.header.name, y + tile.box.y0, x + tile.box.x0),
        box=box.shift(tile.box.y0, tile.box.x0),
        image=np.where(unusable, np.float32(0), _window(tile.image, box, 0)),
        variance=_window_variance(tile, box),
        unusable=unusable | blocked,
        footprint=footprint,
        xy=(xy - [box.x0, box.y0]).astype(np.float32),
        flags=_flags(tile, box, bounds, footprint, unusable),
        cores=_own_cores(cores, box, blocked),
    )


def _own_cores(cores: FloatArray, box: Box, blocked: BoolArray) -> FloatArray | None:
    """Return the hidden light ``(bands, y, x)`` in a stamp, None if there is none."""
    own = np.where(blocked, np.float32(0), _window(cores, box, 0))
    return own if own.any() else None


def _stamp_box(bounds: tuple[slice, slice], margin: int) -> Box:
    """Return the square about a bounding box, of even and if possible standard size."""
    rows, cols = bounds
    side = max(rows.stop - rows.start, cols.stop - cols.start) + 2 * margin
    size = next((s for s in SIZES if s >= side), side + side % 2)
    y0, x0 = ((s.start + s.stop) // 2 - size // 2 for s in (rows, cols))
    return Box(y0, x0, y0 + size, x0 + size)


def _window(array: NDArray[Scalar], box: Box, fill: float) -> NDArray[Scalar]:
    """Return the pixels of the box, the last two axes, with `fill` off the array."""
    inside = box.clip(Box(0, 0, *array.shape[-2:]))
    out = np.full((*array.shape[:-2], *box.shape), fill, dtype=array.dtype)
    out[..., *inside.shift(-box.y0, -box.x0).slices] = array[..., *inside.slices]
    return out


def _window_variance(tile: Tile, box: Box) -> FloatArray:
    variance = _window(tile.variance, box, np.nan)
    if _inside(box, tile):
        return variance
    typical = np.nanmedian(variance, axis=(1, 2), keepdims=True)
    return np.where(np.isnan(variance), typical, variance).astype(np.float32)


def _at_edge(tile: Tile, bounds: tuple[slice, slice]) -> bool:
    """Tell whether a footprint touches the tile's edge or comes near that of the region read."""
    box, whole = tile.box, tile.header.box
    starts = (box.y0 > whole.y0, box.x0 > whole.x0)
    stops = (box.y1 < whole.y1, box.x1 < whole.x1)
    return any(
        side.start <= GUARD * before or side.stop >= n - GUARD * after
        for side, n, before, after in zip(bounds, box.shape, starts, stops, strict=True)
    )


def _flags(
    tile: Tile,
    box: Box,
    bounds: tuple[slice, slice],
    footprint: BoolArray,
    unusable: BoolArray,
) -> int:
    flags = tile.flags
    if not tile.psf.is_constant and tile.psf.jumps(_pixels(tile, box, footprint)):
        flags |= Flag.PSF_DISCONTINUOUS
    shape = tile.image.shape[1:]
    if _at_edge(tile, bounds):
        flags |= Flag.EDGE
    if box.shape[0] > SIZES[-1]:
        flags |= Flag.DEBLEND_FALLBACK
    saturated = _window(tile.saturated, box, False)
    if not (unusable.any() or saturated.any()):
        return int(flags)
    # Bad pixels leave holes and notches in a footprint, so look within its closed outline.
    outline = ndimage.binary_fill_holes(ndimage.binary_dilation(footprint))
    inside_tile = _window(np.ones(shape, dtype=bool), box, False)
    present = ~unusable[:, inside_tile].all(1)
    if np.any(unusable[present] & outline & inside_tile):
        flags |= Flag.MASKED
    if np.any(saturated & outline):
        flags |= Flag.SATURATED
    return int(flags)


def _pixels(tile: Tile, box: Box, footprint: BoolArray) -> NDArray[np.float64]:
    """Return the pixels ``(n, 2)`` (x, y) of the tile in a footprint."""
    y, x = np.nonzero(footprint)
    return np.column_stack([x + box.x0 + tile.box.x0, y + box.y0 + tile.box.y0]).astype(np.float64)


def _inside(box: Box, tile: Tile) -> bool:
    """Tell whether all pixels of a box are on the tile."""
    return box == box.clip(Box(0, 0, *tile.image.shape[1:]))
