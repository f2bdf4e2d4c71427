"""The PSF of a tile by place: one stamp for all of it, one a cell of a grid, or one a position.

A source is fitted with the stamps of the place where its peak is.  Places with the same stamps
have the same key, so that what is made of stamps (mixtures, widths) is made once for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raydeblend.flags import Flag

if TYPE_CHECKING:
    from raydeblend.tile import Box

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

NONE = -1
"""Number of the stamp in a cell without PSF."""


class Places(Protocol):
    """Which stamp of a band holds where; positions are ``(n, 2)`` (x, y) in tile pixels."""

    def numbers(self, xy: Array) -> Numbers:
        """Return the number ``(n,)`` of the stamp at each position."""
        ...

    def missing(self, xy: Array) -> BoolArray:
        """Return ``(n,)`` where there is no PSF, so that one of a place nearby is used."""
        ...

    def jumps(self, xy: Array) -> bool:
        """Tell whether positions lie on both sides of an edge where the PSF jumps."""
        ...

    def within(self, box: Box) -> tuple[Places, Numbers]:
        """Return the part for a box, and the numbers until now of the stamps that it needs."""
        ...

    def shift(self, dy: int, dx: int) -> Places:
        """Return the same places moved by whole pixels."""
        ...


@dataclass(frozen=True, eq=False)
class Grid:
    """A stamp a cell; a position beyond the grid has that of the nearest cell.

    Attributes
    ----------
    y_edges, x_edges
        ``(rows + 1,)`` and ``(columns + 1,)`` first pixels of cells, increasing, half open as a
        `Box`.
    number
        ``(rows, columns)`` of the stamp; in a cell without PSF that of the nearest one with.
    empty
        ``(rows, columns)``; true in a cell without PSF.
    """

    y_edges: Numbers
    x_edges: Numbers
    number: Numbers
    empty: BoolArray

    def numbers(self, xy: Array) -> Numbers:
        """See `Places`."""
        if self.number.size == 1:
            return np.full(len(xy), self.number[0, 0])
        return np.asarray(self.number[self._cells(xy)])

    def missing(self, xy: Array) -> BoolArray:
        """See `Places`."""
        return np.asarray(self.empty[self._cells(xy)])

    def jumps(self, xy: Array) -> bool:
        """See `Places`."""
        return len(np.unique(self.numbers(xy))) > 1

    def within(self, box: Box) -> tuple[Places, Numbers]:
        """See `Places`."""
        corners = np.array([[box.x0, box.y0], [box.x1 - 1, box.y1 - 1]], dtype=np.float64)
        (y0, y1), (x0, x1) = (ends.tolist() for ends in self._cells(corners))
        cells = slice(y0, y1 + 1), slice(x0, x1 + 1)
        kept, number = np.unique(self.number[cells], return_inverse=True)
        number = number.reshape(self.number[cells].shape)
        edges = self.y_edges[y0 : y1 + 2], self.x_edges[x0 : x1 + 2]
        return Grid(*edges, number, self.empty[cells]), kept

    def shift(self, dy: int, dx: int) -> Places:
        """See `Places`."""
        return replace(self, y_edges=self.y_edges + dy, x_edges=self.x_edges + dx)

    def _cells(self, xy: Array) -> tuple[Numbers, Numbers]:
        columns, rows = np.floor(xy + 0.5).T
        return _cell(self.y_edges, rows), _cell(self.x_edges, columns)


def _cell(edges: Numbers, pixels: Array) -> Numbers:
    return np.clip(np.searchsorted(edges, pixels, side="right") - 1, 0, len(edges) - 2)


@dataclass(frozen=True, eq=False)
class Nearest:
    """Stamps at positions, of which the nearest one holds: samples of a PSF that does not jump.

    Attributes
    ----------
    xy
        ``(n, 2)`` where each stamp was taken.
    """

    xy: Array

    def numbers(self, xy: Array) -> Numbers:
        """See `Places`."""
        distance = np.linalg.norm(xy[:, None] - self.xy[None], axis=2)
        return np.asarray(distance.argmin(axis=1))

    def missing(self, xy: Array) -> BoolArray:
        """See `Places`."""
        return np.zeros(len(xy), dtype=bool)

    def jumps(self, xy: Array) -> bool:
        """See `Places`."""
        return False

    def within(self, box: Box) -> tuple[Places, Numbers]:
        """See `Places`; a stamp can be the nearest only if no other is nearer to all of the box."""
        low, high = np.array([box.x0, box.y0]), np.array([box.x1 - 1, box.y1 - 1])
        near = np.linalg.norm(self.xy - np.clip(self.xy, low, high), axis=1)
        far = np.linalg.norm(np.maximum(abs(self.xy - low), abs(self.xy - high)), axis=1)
        kept = np.flatnonzero(near <= far.min())
        return Nearest(self.xy[kept]), kept

    def shift(self, dy: int, dx: int) -> Places:
        """See `Places`."""
        return Nearest(self.xy + np.array([dx, dy]))


@dataclass(frozen=True, eq=False)
class BandPsf:
    """The PSF of one band; made by `everywhere`, `by_cell` or `by_position`.

    Attributes
    ----------
    stamps
        ``(py, px)`` each, of odd sides and sum 1; sizes may differ.
    places
        Which of them holds where.
    flags
        Bits of `raydeblend.flags.Flag` of each stamp.
    height
        Mean of the stamps' highest pixels over the whole tile, of which `stamps` may be a part.
    """

    stamps: tuple[FloatArray, ...]
    places: Places
    flags: tuple[int, ...]
    height: float

    def within(self, box: Box) -> BandPsf:
        """Return the part that a box of the tile needs."""
        places, kept = self.places.within(box)
        stamps = tuple(self.stamps[i] for i in kept)
        return replace(self, stamps=stamps, places=places, flags=tuple(self.flags[i] for i in kept))


def constant(stamps: Sequence[FloatArray]) -> TilePsf:
    """Return the PSF of a tile that has one stamp in each band."""
    return TilePsf(tuple(everywhere(stamp) for stamp in stamps))


def everywhere(stamp: FloatArray, flags: int = 0) -> BandPsf:
    """Return the PSF that is the same in all of a tile."""
    whole = Grid(np.arange(2), np.arange(2), np.zeros((1, 1), int), np.zeros((1, 1), bool))
    return BandPsf((stamp,), whole, (flags,), _height([stamp]))


def by_cell(
    stamps: Sequence[FloatArray],
    number: NDArray[np.integer],
    y_edges: ArrayLike,
    x_edges: ArrayLike,
    flags: Sequence[int] = (),
    height: float | None = None,
) -> BandPsf:
    """Return a PSF that is constant in each cell of a grid.

    Parameters
    ----------
    stamps
        At least one; those that are equal count as one, so that between them nothing jumps.
    number
        ``(rows, columns)`` of the stamp in each cell, `NONE` (-1) where there is none.  There that
        of the nearest cell is used, and Flag.PSF_NOMINAL set.
    y_edges, x_edges
        See `Grid`; in pixels of the whole tile, also where only some of its cells are given.
    flags
        Of each stamp; by default none.
    height
        See `BandPsf`; by default that of `stamps`.
    """
    of_stamps = flags or (0,) * len(stamps)
    first, same = _distinct(stamps)
    empty = np.asarray(number) < 0
    edges = np.asarray(y_edges, dtype=np.int64), np.asarray(x_edges, dtype=np.int64)
    filled = _filled(np.where(empty, NONE, same[number]), *edges)
    return BandPsf(
        tuple(stamps[i] for i in first),
        Grid(*edges, filled, empty),
        tuple(of_stamps[i] for i in first),
        _height(stamps) if height is None else height,
    )


def by_position(
    stamps: Sequence[FloatArray],
    xy: ArrayLike,
    flags: Sequence[int] = (),
    height: float | None = None,
) -> BandPsf:
    """Return a PSF known at positions ``(n, 2)`` (x, y) in pixels of the tile, nearest taken.

    See `by_cell` for `flags` and `height`.
    """
    places = Nearest(np.asarray(xy, dtype=np.float64).reshape(-1, 2))
    of_stamps = tuple(flags or (0,) * len(stamps))
    return BandPsf(tuple(stamps), places, of_stamps, _height(stamps) if height is None else height)


def _height(stamps: Sequence[FloatArray]) -> float:
    return float(np.mean([float(stamp.max() / stamp.sum()) for stamp in stamps]))


def _distinct(stamps: Sequence[FloatArray]) -> tuple[list[int], Numbers]:
    """Return which stamps differ from all before them, and of each stamp which of these it is."""
    number: dict[tuple[bytes, tuple[int, ...]], int] = {}
    first: list[int] = []
    same: list[int] = []
    for i, stamp in enumerate(stamps):
        key = stamp.tobytes(), stamp.shape
        if key not in number:
            number[key] = len(first)
            first.append(i)
        same.append(number[key])
    return first, np.array(same, dtype=np.int64)


def _filled(number: Numbers, y_edges: Numbers, x_edges: Numbers) -> Numbers:
    """Return the numbers with those of the nearest cells, by their centers, in place of `NONE`."""
    known = np.argwhere(number >= 0)
    if not len(known):
        raise ValueError("a grid of PSFs needs a cell that has one")
    y, x = ((edges[1:] + edges[:-1]) / 2 for edges in (y_edges, x_edges))
    filled = number.copy()
    for row, column in np.argwhere(number < 0):
        distance = np.hypot(y[known[:, 0]] - y[row], x[known[:, 1]] - x[column])
        filled[row, column] = number[tuple(known[distance.argmin()])]
    return filled


@dataclass(frozen=True, eq=False)
class TilePsf:
    """The PSF of a tile, or of a box of it, in each band.

    Attributes
    ----------
    bands
        One a band, in the tile's order.
    """

    bands: tuple[BandPsf, ...]

    @property
    def is_constant(self) -> bool:
        """Whether all places have the same stamps."""
        return all(len(band.stamps) == 1 for band in self.bands)

    def numbers(self, xy: ArrayLike) -> Numbers:
        """Return ``(bands, n)`` of each position ``(n, 2)`` (x, y) each band's stamp."""
        places = _positions(xy)
        return np.stack([band.places.numbers(places) for band in self.bands])

    def keys(self, xy: ArrayLike) -> list[tuple[int, ...]]:
        """Return the key of each position ``(n, 2)``: the number of each band's stamp there."""
        return [tuple(numbers) for numbers in self.numbers(xy).T.tolist()]

    def stamps(self, key: tuple[int, ...]) -> tuple[FloatArray, ...]:
        """Return the stamp ``(py, px)`` of each band for a key."""
        return tuple(band.stamps[i] for band, i in zip(self.bands, key, strict=True))

    def at(self, x: float, y: float) -> tuple[FloatArray, ...]:
        """Return the stamp of each band at a position."""
        return self.stamps(self.keys([[x, y]])[0])

    def each(self, xy: ArrayLike) -> list[tuple[FloatArray, ...]]:
        """Return the stamp of each band at each position ``(n, 2)``."""
        return [self.stamps(key) for key in self.keys(xy)]

    def missing(self, xy: ArrayLike) -> BoolArray:
        """Return ``(n, bands)`` where a band has no PSF, so that one of a place nearby is used."""
        places = _positions(xy)
        return np.stack([band.places.missing(places) for band in self.bands], axis=1)

    def flags(self, xy: ArrayLike) -> NDArray[np.int32]:
        """Return the bits ``(n,)`` that the PSFs at positions set."""
        pairs = zip(self.bands, self.numbers(xy), strict=True)
        of_bands = [np.array(band.flags, dtype=np.int32)[numbers] for band, numbers in pairs]
        nominal = np.where(self.missing(xy).any(axis=1), np.int32(Flag.PSF_NOMINAL), np.int32(0))
        return np.asarray(np.bitwise_or.reduce([*of_bands, nominal]), dtype=np.int32)

    def jumps(self, xy: ArrayLike) -> bool:
        """Tell whether any band's PSF jumps between the positions: they span an edge of cells."""
        places = _positions(xy)
        return any(band.places.jumps(places) for band in self.bands)

    def within(self, box: Box) -> TilePsf:
        """Return the part that a box of the tile needs; keys are others then."""
        return TilePsf(tuple(band.within(box) for band in self.bands))

    def seen_in(self, box: Box) -> TilePsf:
        """Return the part that a box needs, by place in the box's own pixels."""
        bands = (band.within(box) for band in self.bands)
        return TilePsf(tuple(replace(b, places=b.places.shift(-box.y0, -box.x0)) for b in bands))


def _positions(xy: ArrayLike) -> Array:
    return np.asarray(xy, dtype=np.float64).reshape(-1, 2)
