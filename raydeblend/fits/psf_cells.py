"""A PSF by cell: an HDU of (cells y, cells x, py, px), and the grid of its cells.

The grid is in the JSON tree of lsst-images (package `lsst-images`, schema cell_psf 1), which counts
pixels from a corner of the tract, or in cards of the HDU: ``CELLY0, CELLX0`` the first pixel of the
first cell in the tile's, and ``CELLNY, CELLNX`` the pixels of a cell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from raydeblend.errors import TileError
from raydeblend.fits.hdus import by
from raydeblend.fits.psfs import Stamp, finish_stamp
from raydeblend.psf import NONE, BandPsf, by_cell, by_position
from raydeblend.tile import Box, FloatArray

JSON = "JSON"
"""HDU, and its column, of the tree that describes a file of lsst-images."""
READ_VERSION = 1
"""Of the schemas that this reads."""
CARDS = ("CELLY0", "CELLX0", "CELLNY", "CELLNX")
JUMPS = "CELLJUMP"
"""Card; false where stamps are samples, at the centers of cells, of a PSF that does not jump."""
SAMPLED = 3
"""Cells a side, spread over the grid, that tell the mean height of its stamps."""


@dataclass(frozen=True)
class CellGrid:
    """Where the cells of an array of PSFs lie.

    Attributes
    ----------
    start, size
        First pixel (y, x) of cell (0, 0) in pixels of the tile, and pixels (y, x) of a cell.
    missing
        Cells (row, column) that are said to have no PSF; what is in such cells unsaid is no PSF.
    """

    start: tuple[int, int]
    size: tuple[int, int]
    missing: frozenset[tuple[int, int]] = frozenset()

    def edges(self, axis: int, first: int, last: int) -> NDArray[np.int64]:
        """Return the first pixels of cells from `first` to before `last`, and the end."""
        return self.start[axis] + self.size[axis] * np.arange(first, last + 1)

    def near(self, axis: int, low: int, high: int, n: int) -> tuple[int, int]:
        """Return the range of the n cells that pixels from `low` to before `high` lie in.

        One more on each side is for cells without PSF, which take that of the nearest.
        """
        first = (low - self.start[axis]) // self.size[axis] - 1
        last = (high - 1 - self.start[axis]) // self.size[axis] + 2
        return max(first, 0), min(last, n)


def read_cells(
    path: str, hdus: fits.HDUList, psf: fits.ImageHDU, shape: Sequence[int], box: Box
) -> BandPsf | None:
    """Return the PSF of the cells that a box needs; None if none of them has any.

    Parameters
    ----------
    shape
        Rows and columns of the image.

    Raises
    ------
    TileError
        If the grid is not given or does not cover the image, or a stamp is unusable.
    """
    grid = cell_grid(path, hdus, psf, shape)
    rows, columns = psf.shape[:2]
    (i0, i1), (j0, j1) = grid.near(0, box.y0, box.y1, rows), grid.near(1, box.x0, box.x1, columns)
    number = np.full((i1 - i0, j1 - j0), NONE)
    stamps: list[FloatArray] = []
    flags: list[int] = []
    found = np.asarray(psf.section[i0:i1, j0:j1])
    for i, j in np.ndindex(number.shape):
        if _is_there(grid, found[i, j], (i0 + i, j0 + j)):
            stamp, flag = finish_stamp(Stamp(found[i, j]), f"{path}: cell {i0 + i}, {j0 + j}")
            number[i, j] = len(stamps)
            stamps.append(stamp)
            flags.append(int(flag))
    if not stamps:
        return None
    edges = grid.edges(0, i0, i1), grid.edges(1, j0, j1)
    near = {(i0 + i, j0 + j): found[i, j] for i, j in np.ndindex(number.shape)}
    height = _height(grid, psf, near)
    if not psf.header.get(JUMPS, True):
        return by_position(stamps, _centers(number, *edges), flags, height)
    return by_cell(stamps, number, *edges, flags, height)


def _centers(
    number: NDArray[np.int64], y_edges: NDArray[np.int64], x_edges: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the centers ``(n, 2)`` (x, y) of the cells with stamps, in the stamps' order."""
    y, x = ((edges[1:] + edges[:-1] - 1) / 2 for edges in (y_edges, x_edges))
    rows, columns = np.nonzero(number >= 0)
    return np.column_stack([x[columns], y[rows]])


def _is_there(grid: CellGrid, stamp: NDArray[np.floating], cell: tuple[int, int]) -> bool:
    """Tell whether a cell has a PSF: a stamp that no light is left in, or NaN anywhere, is none.

    One such cell is no reason to give up all the others of a patch.
    """
    return cell not in grid.missing and bool(np.isfinite(stamp).all() and stamp.sum() > 0)


def _height(
    grid: CellGrid, psf: fits.ImageHDU, near: Mapping[tuple[int, int], NDArray[np.floating]]
) -> float | None:
    """Return the mean of the highest pixels of stamps spread over the grid, whatever the box.

    `near` are the stamps that have been read already, by cell.
    """
    rows, columns = (_spread(n) for n in psf.shape[:2])
    cells = [(i, j) for i in rows for j in columns]
    stamps = {
        (i, j): near[i, j] if (i, j) in near else psf.section[i : i + 1, j : j + 1][0, 0]
        for i, j in cells
    }
    heights = [
        stamp.max() / stamp.sum() for cell, stamp in stamps.items() if _is_there(grid, stamp, cell)
    ]
    return float(np.mean(heights)) if heights else None


def _spread(n: int) -> list[int]:
    """Return the numbers of a few of n cells in a row."""
    return sorted(set(np.linspace(0, n - 1, min(n, SAMPLED)).astype(int).tolist()))


def cell_grid(path: str, hdus: fits.HDUList, psf: fits.ImageHDU, shape: Sequence[int]) -> CellGrid:
    """Return where the cells of an image of `shape` lie.

    Raises
    ------
    TileError
        If nothing tells, or they do not cover the image.
    """
    grid = _grid(path, hdus, psf)
    if min(grid.size) < 1:
        raise TileError(f"{path}: a cell of the PSF has {by(grid.size)} pixels")
    for axis, name in enumerate("yx"):
        edges = grid.edges(axis, 0, psf.shape[axis])
        if edges[0] > 0 or edges[-1] < shape[axis]:
            raise TileError(
                f"{path}: the cells of the PSF cover {name} from {edges[0]} to {edges[-1]}, the "
                f"image from 0 to {shape[axis]}"
            )
    return grid


def _grid(path: str, hdus: fits.HDUList, psf: fits.ImageHDU) -> CellGrid:
    if all(card in psf.header for card in CARDS):
        y0, x0, height, width = (int(psf.header[card]) for card in CARDS)
        return CellGrid((y0, x0), (height, width))
    if JSON in hdus:
        return _grid_of_tree(path, hdus)
    raise TileError(
        f"{path}: nothing tells where the cells of the PSF ({by(psf.shape)}) lie; needed are the "
        f"cards {', '.join(CARDS)}, or the HDU {JSON} of lsst-images"
    )


def _grid_of_tree(path: str, hdus: fits.HDUList) -> CellGrid:
    try:
        tree = json.loads(bytes(hdus[JSON].data[JSON][0]))
        psf, (y0, x0) = tree["psf"], tree["image"]["yx0"]
        _check_version(path, psf)
        bounds, grid = psf["bounds"], psf["bounds"]["grid"]
        size = _yx(grid["cell_shape"])
        corner, start = _start(bounds["bbox"]), _start(grid["bbox"])
        first = [(c - s) // n for c, s, n in zip(corner, start, size, strict=True)]
        missing = ((cell["i"] - first[0], cell["j"] - first[1]) for cell in bounds["missing"])
        return CellGrid((corner[0] - y0, corner[1] - x0), size, frozenset(missing))
    except (LookupError, TypeError, ValueError, ZeroDivisionError) as error:
        raise TileError(f"{path}: its HDU {JSON} tells no grid of PSFs: {error!r}") from error


def _check_version(path: str, tree: Mapping[str, Any]) -> None:
    if tree["min_read_version"] > READ_VERSION:
        raise TileError(
            f"{path}: its PSF needs a reader of version {tree['min_read_version']}, this is of "
            f"{READ_VERSION}"
        )


def _yx(tree: Mapping[str, Any]) -> tuple[int, int]:
    return int(tree["y"]), int(tree["x"])


def _start(box: Mapping[str, Any]) -> tuple[int, int]:
    return int(box["y"]["start"]), int(box["x"]["start"])
