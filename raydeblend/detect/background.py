"""The sky that the survey's own subtraction left in a coadd.

The sky is averaged over the pixels without sources in windows of 144 pixels, at nodes 16 pixels
apart that are fixed to the pixel grid of the projection, and interpolated between them.  A constant
or gradient added to an image is added to its sky too, since no threshold depends on the level of
the sky.  The sky of a pixel depends on no other beyond `REACH`: if that many pixels are read around
a region, its sky is the same however tiles and cells are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from raydeblend.detect.sky_config import SKY
from raydeblend.detect.sky_planes import Float64Array, Planes, low_planes
from raydeblend.detect.sky_squares import Squares, joined, make_squares
from raydeblend.fits.layouts import make_layout
from raydeblend.tile import Tile, TileHeader

PER_STEP = SKY.squares_per_step
REACH = SKY.reach
"""Pixels that a cell reads beyond its border, so that its sky does not depend on the cut."""


def without_background(tile: Tile, background: str) -> Tile:
    """Return the tile as it is detected on; `background` is one of `config.BACKGROUNDS`."""
    return (
        tile if chosen_background(tile.header, background) == "none" else subtract_background(tile)
    )


def chosen_background(header: TileHeader, background: str) -> str:
    """Return what ``auto`` stands for, else `background` itself."""
    return default_background(header) if background == "auto" else background


def default_background(header: TileHeader) -> str:
    """Return ``none`` if the survey delivers tiles with their sky subtracted, else ``local``."""
    layouts = [make_layout(file.layout) for file in header.files if file is not None]
    return "none" if layouts and all(one.background == "none" for one in layouts) else "local"


def subtract_background(tile: Tile) -> Tile:
    """Return the tile with its remaining sky subtracted, band by band.

    Small fields get one constant (`SkyConfig.small_field`); bands without usable pixels stay as
    they are.
    """
    present = [band for band in range(len(tile.image)) if not tile.unusable[band].all()]
    origin = grid_origin(tile)
    image = tile.image.copy()
    for band, nodes in zip(present, _sky_nodes(tile, present, origin), strict=True):
        sky = _interpolate(nodes, origin, image.shape[1:])
        np.subtract(image[band], sky, out=image[band], where=~tile.unusable[band])
    return replace(tile, image=image)


def grid_origin(tile: Tile) -> tuple[int, int]:
    """Return the row and column of the first pixel on the grid that tiles of a projection share.

    The grid starts at the reference pixel of the WCS, so that all its tiles have the same nodes.
    """
    cards = fits.Header.fromstring(tile.header.wcs)
    # Halves are rounded up: rounding them to even would differ between tiles an odd shift apart.
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
    planes = [low_planes(s.lows, s.cell_sigma, SKY.plane_reach).halved() for s in squares]
    shares = [_sky_share(*pair) for pair in zip(squares, planes, strict=True)]
    if max(tile.image.shape[1:]) < SKY.small_field:
        planes = [plane.level_only() for plane in planes]
    return [
        _window_means(band, plane, np.minimum.reduce(shares))
        for band, plane in zip(squares, planes, strict=True)
    ]


def _whole_cells(values: NDArray[Any], origin: tuple[int, int], **how: Any) -> NDArray[Any]:
    """Return an image padded to whole cells of the grid, and by one more cell on every side."""
    pads = [
        (SKY.cell + start % SKY.cell, SKY.cell + -(n + start) % SKY.cell)
        for n, start in zip(values.shape, origin, strict=True)
    ]
    return np.pad(values, pads, **how)


def _sky_share(squares: Squares, planes: Planes) -> Float64Array:
    """Return the weight of each square ``(y, x)``: 0 on sources and halos, below 1 in wings."""
    dark = squares.brightest <= planes.spread(PER_STEP) + SKY.halo * squares.sigma
    return np.where(squares.source, 0, dark / (1 + (squares.wings / SKY.wing_sigma) ** 2) ** 2)


def _window_means(squares: Squares, planes: Planes, share: Float64Array) -> Float64Array:
    """Return a band's sky at each node ``(y, x)``, without the wings of sources in its window.

    The light above the node's plane is fitted by least squares as a + b w, where w are the expected
    wings, with the priors a = 0 (`SkyConfig.prior_pixels`) and b = 1 (`SkyConfig.wing_error`).
    """
    number, wings = squares.count * share, squares.wings * squares.sigma
    n, t = _in_window(number, squares.total * share, planes)
    nw, tw = _in_window(number * wings, squares.total * share * wings, planes)
    nww, _ = _in_window(number * wings**2, squares.total * 0, planes)
    held = n + SKY.prior_pixels
    known = (joined(np.add, squares.sigma, PER_STEP) / PER_STEP**2 / SKY.wing_error) ** 2
    part = (tw + known - nw * t / held) / (nww + known - nw**2 / held)
    return np.asarray(planes.level + (t - part * nw) / held)


def _in_window(
    count: Float64Array, total: Float64Array, planes: Planes
) -> tuple[Float64Array, Float64Array]:
    """Return sums over each node's window: of the counts, and of the totals above its plane."""
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
    """Return the offset of each of `n` squares from the middle of its block, in steps."""
    return (np.arange(n) % PER_STEP + 0.5) / PER_STEP - 0.5


def _moments(moments: Float64Array, counts: Float64Array) -> Float64Array:
    """Return the sums over windows of counts times their row offset from the node, in steps.

    Parameters
    ----------
    moments
        ``(y, x)`` the same sums within each block.
    counts
        ``(y, x)`` sums of the counts.
    """
    return _sum_near(_sum_near(moments, counts).T).T


def _sum_near(blocks: Float64Array, counts: Float64Array | None = None) -> Float64Array:
    """Return the sums along the first axis over the blocks of each window.

    With `counts`, these times their distance in steps are added.  The order of the summation does
    not depend on how the tile is cut.
    """
    half = SKY.window_steps // 2
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
    y, x = (SKY.cell + start % SKY.cell - SKY.step // 2 for start in origin)
    rows = _stretched(nodes.T).T[y : y + shape[0]]
    sky = _stretched(rows)[:, x : x + shape[1]]
    return np.full(shape, sky.mean()) if max(shape) < SKY.small_field else sky


def _stretched(nodes: Float64Array) -> Float64Array:
    """Return the interpolation along the last axis, from the first node to the last."""
    part = (np.arange(SKY.step) + 0.5) / SKY.step
    low, high = nodes[:, :-1, None], nodes[:, 1:, None]
    return (low + part * (high - low)).reshape(len(nodes), -1)
