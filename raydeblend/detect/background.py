"""The sky that a coadd's own subtraction has left, tile by tile.

Sky is averaged over the pixels without sources in windows of 80 pixels, at nodes 16 pixels apart
that are fixed to the pixel grid of the projection, and interpolated between them.  What is added
to an image, a constant or a gradient, is added to its sky: no threshold asks how far the sky is
from zero.  No pixel depends on others farther than `REACH`: with so many read around it, a region
gets the same sky however tiles and cells are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from raydeblend.detect import sky_squares
from raydeblend.detect.sky_planes import Float64Array, Planes, low_planes
from raydeblend.detect.sky_squares import CELL, SIDE, Squares, make_squares
from raydeblend.tile import Tile

STEP = 16
"""Distance of the nodes in pixels."""
PER_STEP = STEP // SIDE
BLOCKS = 5
"""Side of the window about a node, in steps."""
WINDOW = BLOCKS * STEP

# The wings and halos that are too smooth for a source are still brighter than this, in sigma of a
# pixel above the plane about the node.
BRIGHT = 0.7
# The planes are fitted to so many cells to either side, where a galaxy has to leave some sky.
PLANE_REACH = 4
# As many imaginary pixels on the plane hold the value where sources leave few real ones.
HOLD = 0.1 * WINDOW**2

REACH = STEP + max(WINDOW // 2 + sky_squares.REACH, STEP // 2 + CELL // 2 + PLANE_REACH * CELL)
"""Pixels: 168, which a cell reads beyond its border."""


def without_background(tile: Tile, background: str) -> Tile:
    """Return the tile as it is detected on; `background` is one of `config.BACKGROUNDS`."""
    return tile if background == "none" else subtract_background(tile)


def subtract_background(tile: Tile) -> Tile:
    """Return the tile with its remaining sky subtracted, band by band.

    Fields smaller than a window get one constant.  Bands without usable pixels stay as they are.
    """
    present = [band for band in range(len(tile.image)) if not tile.unusable[band].all()]
    origin = grid_origin(tile)
    image = tile.image.copy()
    for band, nodes in zip(present, _sky_nodes(tile, present, origin), strict=True):
        sky = _interpolate(nodes, origin, image.shape[1:])
        np.subtract(image[band], sky, out=image[band], where=~tile.unusable[band])
    return replace(tile, image=image)


def grid_origin(tile: Tile) -> tuple[int, int]:
    """Return row and column of the first pixel on the pixel grid that tiles of a projection share.

    It starts at the reference pixel of the WCS, so that tiles of one grid have the same nodes.
    """
    cards = fits.Header.fromstring(tile.header.wcs)
    # Halves always go up: to the even number they would part tiles an odd number of pixels apart.
    y, x = (int(np.floor(1.5 - cards.get(name, 1.0))) for name in ("CRPIX2", "CRPIX1"))
    return tile.box.y0 + y, tile.box.x0 + x


def _sky_nodes(tile: Tile, bands: Sequence[int], origin: tuple[int, int]) -> list[Float64Array]:
    """Return the sky of each band at the nodes ``(y, x)`` of its whole cells."""
    squares = [
        make_squares(
            _whole_cells(tile.image[band], origin),
            _whole_cells(tile.variance[band], origin, mode="edge"),
            _whole_cells(tile.unusable[band], origin, constant_values=True),
        )
        for band in bands
    ]
    planes = [low_planes(s.lows, s.cell_sigma, PLANE_REACH).halved() for s in squares]
    return list(_window_means(squares, planes)) if bands else []


def _whole_cells(values: NDArray[Any], origin: tuple[int, int], **how: Any) -> NDArray[Any]:
    """Return an image that is padded to whole cells of the grid and by one more on every side."""
    pads = [
        (CELL + start % CELL, CELL + -(n + start) % CELL)
        for n, start in zip(values.shape, origin, strict=True)
    ]
    return np.pad(values, pads, **how)


def _window_means(squares: Sequence[Squares], planes: Sequence[Planes]) -> Float64Array:
    """Return the mean of each band's sky in the window about each node ``(band, y, x)``."""
    total, count, limit = _by_place(squares)
    level, slope_y, slope_x = (
        np.stack([getattr(plane, name) for plane in planes])
        for name in ("level", "slope_y", "slope_x")
    )
    rows, columns = level.shape[1:]
    excess, number = np.zeros_like(level), np.full_like(level, HOLD)
    for y, x in np.ndindex(BLOCKS * PER_STEP, BLOCKS * PER_STEP):
        (i, row), (j, column) = divmod(y, PER_STEP), divmod(x, PER_STEP)
        part = (row, column, ..., slice(i, i + rows), slice(j, j + columns))
        dy, dx = ((k + 0.5) / PER_STEP - BLOCKS / 2 for k in (y, x))
        plane = level + dy * slope_y + dx * slope_x
        sky = (limit[part] < plane).all(axis=0)
        number += count[part] * sky
        excess += (total[part] - count[part] * plane) * sky
    return np.asarray(level + excess / number)


def _by_place(squares: Sequence[Squares]) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return total, count and what the plane must exceed where there is sky.

    Each ``(y in a step, x in a step, band, step y, step x)``, with half a window around.
    """
    source = np.logical_or.reduce([s.source for s in squares])
    limits = [np.where(source, np.inf, s.brightest - BRIGHT * s.sigma) for s in squares]
    planes = ([s.total for s in squares], [s.count for s in squares], limits)
    total, count, limit = (_split(np.stack(bands)) for bands in planes)
    return total, count, limit


def _split(squares: Float64Array) -> Float64Array:
    bands, height, width = squares.shape
    split = squares.reshape(bands, height // PER_STEP, PER_STEP, width // PER_STEP, PER_STEP)
    half = BLOCKS // 2
    return np.pad(split.transpose(2, 4, 0, 1, 3), [(0, 0)] * 3 + [(half, half)] * 2)


def _interpolate(
    nodes: Float64Array, origin: tuple[int, int], shape: tuple[int, ...]
) -> Float64Array:
    """Return the bilinear interpolation of the nodes at every pixel."""
    y, x = (CELL + start % CELL - STEP // 2 for start in origin)
    rows = _stretched(nodes.T).T[y : y + shape[0]]
    sky = _stretched(rows)[:, x : x + shape[1]]
    return np.full(shape, sky.mean()) if max(shape) < WINDOW else sky


def _stretched(nodes: Float64Array) -> Float64Array:
    """Return the interpolation along the last axis, from the first node to the last."""
    part = (np.arange(STEP) + 0.5) / STEP
    low, high = nodes[:, :-1, None], nodes[:, 1:, None]
    return (low + part * (high - low)).reshape(len(nodes), -1)
