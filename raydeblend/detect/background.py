"""The sky that a coadd's own subtraction has left, tile by tile.

Sky is averaged over the pixels without sources in windows of 144 pixels, at nodes 16 pixels apart
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
from raydeblend.detect.sky_squares import CELL, SIDE, Squares, joined, make_squares
from raydeblend.fits.layouts import make_layout
from raydeblend.tile import Tile, TileHeader

STEP = 16
"""Distance of the nodes in pixels."""
PER_STEP = STEP // SIDE
BLOCKS = 9
"""Side of the window about a node, in steps."""
WINDOW = BLOCKS * STEP
SMALL = 80
"""A field of fewer pixels a side gets one constant."""

# The wings and halos that are too smooth for a source are still brighter than this, in sigma of a
# pixel above the plane about the node.
BRIGHT = 0.7
# A square whose expected wings are so many sigma of a pixel counts a quarter.
WING_SIGMA = 0.14
# The wings are as expected, more or less so many times that: an exponential disk has none.
WING_ERROR = 3.5
# The planes are fitted to so many cells to either side, where a galaxy has to leave some sky.
PLANE_REACH = 4
# As many imaginary pixels on the plane hold the value where sources leave no real ones.
HOLD = 10.0

REACH = STEP + WINDOW // 2 + max(sky_squares.REACH, STEP // 2 + CELL // 2 + PLANE_REACH * CELL)
"""Pixels, which a cell reads beyond its border."""


def without_background(tile: Tile, background: str) -> Tile:
    """Return the tile as it is detected on; `background` is one of `config.BACKGROUNDS`."""
    return (
        tile if chosen_background(tile.header, background) == "none" else subtract_background(tile)
    )


def chosen_background(header: TileHeader, background: str) -> str:
    """Return what ``auto`` stands for, else `background` itself."""
    return default_background(header) if background == "auto" else background


def default_background(header: TileHeader) -> str:
    """Return ``none`` where the survey delivers tiles with their sky taken off, else ``local``."""
    layouts = [make_layout(file.layout) for file in header.files if file is not None]
    return "none" if layouts and all(one.background == "none" for one in layouts) else "local"


def subtract_background(tile: Tile) -> Tile:
    """Return the tile with its remaining sky subtracted, band by band.

    Fields smaller than `SMALL` get one constant.  Bands without usable pixels stay as they are.
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
    shares = [_sky_share(*pair) for pair in zip(squares, planes, strict=True)]
    if max(tile.image.shape[1:]) < SMALL:
        planes = [plane.level_only() for plane in planes]
    return [
        _window_means(band, plane, np.minimum.reduce(shares))
        for band, plane in zip(squares, planes, strict=True)
    ]


def _whole_cells(values: NDArray[Any], origin: tuple[int, int], **how: Any) -> NDArray[Any]:
    """Return an image that is padded to whole cells of the grid and by one more on every side."""
    pads = [
        (CELL + start % CELL, CELL + -(n + start) % CELL)
        for n, start in zip(values.shape, origin, strict=True)
    ]
    return np.pad(values, pads, **how)


def _sky_share(squares: Squares, planes: Planes) -> Float64Array:
    """Return how much each square counts ``(y, x)``: 0 on sources and halos, less in wings."""
    dark = squares.brightest <= planes.spread(PER_STEP) + BRIGHT * squares.sigma
    return np.where(squares.source, 0, dark / (1 + (squares.wings / WING_SIGMA) ** 2) ** 2)


def _window_means(squares: Squares, planes: Planes, share: Float64Array) -> Float64Array:
    """Return a band's sky about each node ``(y, x)``, below the wings of sources in its window.

    What is above the plane about the node is a + b w, where w are the wings expected: by least
    squares, with `HOLD` imaginary pixels that say a = 0, and b = 1 within `WING_ERROR`.
    """
    number, wings = squares.count * share, squares.wings * squares.sigma
    n, t = _in_window(number, squares.total * share, planes)
    nw, tw = _in_window(number * wings, squares.total * share * wings, planes)
    nww, _ = _in_window(number * wings**2, squares.total * 0, planes)
    held = n + HOLD
    known = (joined(np.add, squares.sigma, PER_STEP) / PER_STEP**2 / WING_ERROR) ** 2
    part = (tw + known - nw * t / held) / (nww + known - nw**2 / held)
    return np.asarray(planes.level + (t - part * nw) / held)


def _in_window(
    count: Float64Array, total: Float64Array, planes: Planes
) -> tuple[Float64Array, Float64Array]:
    """Return sums over the window about each node: of counts, and of totals off its plane."""
    rows, columns = (_within_block(n) for n in count.shape)
    number = joined(np.add, count, PER_STEP)
    y = _moments(joined(np.add, count * rows[:, None], PER_STEP), number)
    x = _moments(joined(np.add, count * columns, PER_STEP).T, number.T).T
    number, excess = (
        _sum_near(_sum_near(a).T).T for a in (number, joined(np.add, total, PER_STEP))
    )
    excess = excess - planes.level * number - planes.slope_y * y - planes.slope_x * x
    return number, excess


def _within_block(n: int) -> Float64Array:
    """Return where each of `n` squares lies from the middle of its block, in steps."""
    return (np.arange(n) % PER_STEP + 0.5) / PER_STEP - 0.5


def _moments(moments: Float64Array, counts: Float64Array) -> Float64Array:
    """Return the sums over windows of counts times their rows off the middle, in steps.

    Parameters
    ----------
    moments
        ``(y, x)`` the same within each block.
    """
    return _sum_near(_sum_near(moments, counts).T).T


def _sum_near(blocks: Float64Array, counts: Float64Array | None = None) -> Float64Array:
    """Return the sums along the first axis of so many blocks as a window has.

    With `counts`, so many times the distance are added.  In an order that is the same in any cut.
    """
    half = BLOCKS // 2
    total = np.zeros_like(blocks)
    for step in range(-half, half + 1):
        source = slice(max(step, 0), len(blocks) + min(step, 0))
        target = slice(max(-step, 0), len(blocks) + min(-step, 0))
        total[target] += (
            blocks[source] if counts is None else blocks[source] + step * counts[source]
        )
    return total


def _interpolate(
    nodes: Float64Array, origin: tuple[int, int], shape: tuple[int, ...]
) -> Float64Array:
    """Return the bilinear interpolation of the nodes at every pixel."""
    y, x = (CELL + start % CELL - STEP // 2 for start in origin)
    rows = _stretched(nodes.T).T[y : y + shape[0]]
    sky = _stretched(rows)[:, x : x + shape[1]]
    return np.full(shape, sky.mean()) if max(shape) < SMALL else sky


def _stretched(nodes: Float64Array) -> Float64Array:
    """Return the interpolation along the last axis, from the first node to the last."""
    part = (np.arange(STEP) + 0.5) / STEP
    low, high = nodes[:, :-1, None], nodes[:, 1:, None]
    return (low + part * (high - low)).reshape(len(nodes), -1)
