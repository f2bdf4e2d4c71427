"""Which cells there are, from headers alone, in a form that 600,000 of them can travel in."""

from __future__ import annotations

import hashlib
import math
import pickle
import zlib
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydeblend.pipeline.ownership import neighbors_of
from raydeblend.pipeline.placed import TilePositions
from raydeblend.pipeline.share import Share
from raydeblend.tile import Box, Cell, TileHeader

BOX = ("y0", "x0", "y1", "x1")


@dataclass(frozen=True)
class SecondPass:
    """More work for footprints that reached a limit.

    Attributes
    ----------
    out
        Where their catalog is.
    factor
        By how much the limits are larger than usual.
    """

    out: str
    factor: float


@dataclass(frozen=True)
class CellTask:
    """A cell and the tiles that overlap its own: all that a worker needs to know.

    With a `second_pass` only those footprints are due of a cell that is done; with `positions` of
    its outer region these are its sources.
    """

    cell: Cell
    neighbors: tuple[TileHeader, ...] = ()
    second_pass: SecondPass | None = None
    positions: TilePositions | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """The cells of a survey, in order of tile and then row and column.

    Everything is an array: a worker that gets the plan from Ray's object store copies nothing,
    and unpacks the headers of the one cell that it does.

    Attributes
    ----------
    tiles
        ``(tiles,)`` their names, sorted.
    packed, ends
        Their compressed headers one after another, and where each ends, ``(tiles,)``.
    near, near_ends
        The numbers of the tiles that may overlap the first, the second, …, and where each
        list ends, ``(tiles,)``.
    tile
        ``(cells,)`` the number of each cell's tile.
    inner
        ``(cells, 4)`` its inner region ``y0, x0, y1, x1`` in tile pixels.
    border
        Pixels read around it, as far as the tile reaches.
    second_pass
        That of its tasks.
    positions
        Given ones on each of its tiles.
    """

    tiles: NDArray[np.str_]
    packed: NDArray[np.uint8]
    ends: NDArray[np.int64]
    near: NDArray[np.int32]
    near_ends: NDArray[np.int64]
    tile: NDArray[np.int32]
    inner: NDArray[np.int32]
    border: int
    second_pass: SecondPass | None = None
    positions: tuple[TilePositions, ...] | None = None

    def __len__(self) -> int:
        return len(self.tile)

    def only(self, share: Share) -> Plan:
        """Return the plan with the cells of some tiles; it still knows the neighbors of all."""
        chosen = np.array([share.has(name) for name in self.tiles.tolist()], dtype=bool)[self.tile]
        return replace(self, tile=self.tile[chosen], inner=self.inner[chosen])

    def header(self, tile: int) -> TileHeader:
        """Unpack the header of a tile by its number."""
        start = self.ends[tile - 1] if tile else 0
        header: TileHeader = pickle.loads(
            zlib.decompress(self.packed[start : self.ends[tile]].tobytes())
        )
        return header

    def task(self, i: int) -> CellTask:
        """Return the i-th cell with its tile's header and those of the tile's neighbors."""
        tile = int(self.tile[i])
        header, inner = self.header(tile), self.box(i)
        outer = inner.grow(self.border).clip(header.box)
        cell = Cell(cell_name(inner), header, inner, outer)
        near = tuple(self.header(other) for other in self._near(tile))
        given = None if self.positions is None else self.positions[tile].within(outer)
        return CellTask(cell, near, self.second_pass, given)

    def around(self, names: Set[str]) -> set[str]:
        """Return the tiles that may overlap one of these, which are among them if two do."""
        found = (self._near(i) for i, name in enumerate(self.tiles.tolist()) if name in names)
        return {str(self.tiles[other]) for near in found for other in near}

    def _near(self, tile: int) -> list[int]:
        start = self.near_ends[tile - 1] if tile else 0
        near: list[int] = self.near[start : self.near_ends[tile]].tolist()
        return near

    def box(self, i: int) -> Box:
        """Return the inner region of the i-th cell."""
        return Box(*self.inner[i].tolist())

    def square_degrees(self, cells: NDArray[np.int64]) -> float:
        """Return the area of the inner regions of some cells, by their numbers."""
        y0, x0, y1, x1 = self.inner[cells].astype(np.float64).T
        tiles, numbers = np.unique(self.tile[cells], return_inverse=True)
        scales = np.array([self.header(tile).pixel_scale / 3600 for tile in tiles.tolist()])
        return float(np.sum((y1 - y0) * (x1 - x0) * scales[numbers] ** 2))

    def keys(self) -> list[tuple[str, str]]:
        """Return the tile and the name of every cell."""
        names = [cell_name(Box(*edges)) for edges in self.inner.tolist()]
        return list(zip(self.tiles[self.tile].tolist(), names, strict=True))

    def to_table(self) -> pa.Table:
        """Return one row per cell: tile, cell and its inner region."""
        tiles = pa.DictionaryArray.from_arrays(pa.array(self.tile), pa.array(self.tiles.tolist()))
        cells = pa.array([cell for _, cell in self.keys()], pa.string())
        edges = [pa.array(column) for column in np.ascontiguousarray(self.inner.T)]
        return pa.table([tiles, cells, *edges], names=["tile", "cell", *BOX])


def plan_survey(headers: Sequence[TileHeader], cell_size: int, border: int) -> Plan:
    """Cut tiles into cells.

    A tile is cut evenly into as few cells as `cell_size` allows, so that no sliver is left over.

    Parameters
    ----------
    cell_size
        Largest side of an inner region in pixels.
    border
        Pixels read around it, as far as the tile reaches.
    """
    inners = [_cut(header.shape, cell_size) for header in headers]
    packs = [zlib.compress(pickle.dumps(header), 1) for header in headers]
    near = neighbors_of(headers)
    return Plan(
        tiles=np.array([header.name for header in headers], dtype=np.str_),
        packed=np.frombuffer(b"".join(packs), np.uint8),
        ends=np.cumsum([len(pack) for pack in packs], dtype=np.int64),
        near=np.concatenate([*near, np.empty(0, np.int32)]),
        near_ends=np.cumsum([len(others) for others in near], dtype=np.int64),
        tile=np.repeat(np.arange(len(headers), dtype=np.int32), [len(cut) for cut in inners]),
        inner=np.concatenate([*inners, np.empty((0, 4), np.int32)]),
        border=border,
    )


@lru_cache(maxsize=256)
def _cut(shape: tuple[int, int], cell_size: int) -> NDArray[np.int32]:
    rows, columns = (_edges(size, cell_size) for size in shape)
    return np.array([(y0, x0, y1, x1) for y0, y1 in rows for x0, x1 in columns], np.int32)


def _edges(size: int, largest: int) -> list[tuple[int, int]]:
    n = math.ceil(size / largest)
    edges = [size * i // n for i in range(n + 1)]
    return list(pairwise(edges))


def cell_name(inner: Box) -> str:
    """Return the name of the cell with this inner region."""
    return f"y{inner.y0:05d}-{inner.y1:05d}_x{inner.x0:05d}-{inner.x1:05d}"


def plan_hash(table: pa.Table) -> str:
    """Return sixteen hex digits of a plan's rows, whatever file they are stored in."""
    digest = hashlib.sha256()
    for name in ("tile", "cell"):
        digest.update("\n".join(table[name].to_pylist()).encode())
    for name in BOX:
        digest.update(np.ascontiguousarray(table[name].to_numpy(), np.int32).tobytes())
    return digest.hexdigest()[:16]
