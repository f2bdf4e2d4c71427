"""How the rows of a catalog are cut into HEALPix partitions, and which shards each of them needs.

A catalog is counted once, by HEALPix pixel of order `COUNTED`, shard by shard.  From the counts
follow the partitions, and from the pixels of each shard which partitions it has rows for: so every
partition is made from its own shards and those around it, and nothing is kept in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend.errors import ConfigError

COUNTED = 10
"""Order of the pixels that rows are counted in, 3.4 arcmin wide; no partition is smaller."""
BASE_PIXELS = 12
"""Pixels of order 0."""
FINEST = 29
"""Order of the pixels that rows carry."""

Int64Array = NDArray[np.int64]


@dataclass(frozen=True, order=True)
class Partition:
    """A HEALPix pixel (nested) whose rows are one file."""

    order: int
    pixel: int

    @property
    def range(self) -> tuple[int, int]:
        """Its first pixel of order `FINEST`, and the one after its last."""
        return self.range_at(FINEST)

    def range_at(self, order: int) -> tuple[int, int]:
        """Return its first pixel of a finer order, and the one after its last."""
        shift = 2 * (order - self.order)
        return self.pixel << shift, (self.pixel + 1) << shift


def to_order(pixels: Int64Array, order: int, of: int = FINEST) -> Int64Array:
    """Return the pixels of an order that hold pixels of the finer order `of`."""
    return pixels >> 2 * (of - order)


@dataclass(frozen=True)
class Counts:
    """The rows of a catalog, counted by pixel of order `COUNTED` and by shard.

    Attributes
    ----------
    pixels, shards, rows
        ``(n,)`` in order of pixels: a pixel, the number of a shard with rows in it, how many.
    """

    pixels: Int64Array
    shards: Int64Array
    rows: Int64Array

    @classmethod
    def join(cls, of_shards: Sequence[tuple[Int64Array, Int64Array]]) -> Counts:
        """Join the pixels and rows of each shard."""
        sizes = [len(pixels) for pixels, _ in of_shards]
        nothing = [np.empty(0, np.int64)]
        pixels = np.concatenate([pixels for pixels, _ in of_shards] + nothing)
        rows = np.concatenate([rows for _, rows in of_shards] + nothing)
        order = np.argsort(pixels, kind="stable")
        shards = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
        return cls(pixels[order], shards[order], rows[order])

    def histogram(self) -> tuple[Int64Array, Int64Array]:
        """Return the pixels with rows, in order, and the number of rows in each."""
        pixels, starts = np.unique(self.pixels, return_index=True)
        return pixels, np.add.reduceat(self.rows, starts) if len(starts) else self.rows

    def shards_in(self, order: int, pixels: Int64Array) -> Int64Array:
        """Return the shards with rows in pixels of an order up to `COUNTED`."""
        shift = 2 * (COUNTED - order)
        starts = np.searchsorted(self.pixels, pixels << shift)
        ends = np.searchsorted(self.pixels, (pixels + 1) << shift)
        found = [self.shards[a:b] for a, b in zip(starts, ends, strict=True) if b > a]
        return np.unique(np.concatenate([*found, np.empty(0, np.int64)]))


def cut(pixels: Int64Array, rows: Int64Array, most: int) -> dict[Partition, int]:
    """Return the partitions of at most `most` rows, in order on the sky, and the rows of each.

    The catalog is cut as by hats-import.  No partition is finer than the coarsest order whose
    pixels all hold at most `most` rows.  Otherwise partitions are as large as this limit allows,
    unless all rows lie in one quarter, since a partition says where a catalog is.

    Parameters
    ----------
    pixels, rows
        ``(n,)`` pixels of order `COUNTED` with rows, in order, and their numbers of rows.

    Raises
    ------
    ConfigError
        If such a pixel holds more.
    """
    if len(rows) and rows.max() > most:
        raise ConfigError(
            f"a partition of {most} rows is too small: a HEALPix pixel of order {COUNTED} holds "
            f"{rows.max()} rows; give --rows-per-partition at least that"
        )
    finest = _finest(pixels, rows, most)
    orders = np.full(len(pixels), finest)
    for order in range(finest - 1, -1, -1):
        children, child = np.unique(to_order(pixels, order + 1, COUNTED), return_inverse=True)
        parents, parent = np.unique(to_order(children, order, order + 1), return_inverse=True)
        n_rows = np.bincount(parent[child], rows, len(parents))
        whole = (n_rows <= most) & (np.bincount(parent, minlength=len(parents)) > 1)
        orders[whole[parent[child]]] = order
    found: dict[Partition, int] = {}
    for pixel, order, n in zip(pixels.tolist(), orders.tolist(), rows.tolist(), strict=True):
        partition = Partition(order, pixel >> 2 * (COUNTED - order))
        found[partition] = found.get(partition, 0) + n
    return found


def _finest(pixels: Int64Array, rows: Int64Array, most: int) -> int:
    """Return the coarsest order, at least 1, whose pixels all hold at most `most` rows."""
    for order in range(COUNTED, 1, -1):
        _, place = np.unique(to_order(pixels, order - 1, COUNTED), return_inverse=True)
        if len(place) and np.bincount(place, rows).max() > most:
            return order
    return 1


def margin_pixels(partition: Partition, order: int) -> Int64Array:
    """Return the pixels of an order, sorted, that border a partition no finer than them."""
    # Of cdshealpix, which hats needs too.
    from hats.pixel_math import get_margin

    return np.array(get_margin(partition.order, partition.pixel, order - partition.order), np.int64)


def empty_pixels(partitions: Iterable[Partition]) -> list[Partition]:
    """Return the largest pixels that cover the sky without partitions; they may have a margin."""
    taken = {
        Partition(order, p.pixel >> 2 * (p.order - order))
        for p in partitions
        for order in range(p.order + 1)
    }
    whole = {Partition(0, pixel) for pixel in range(BASE_PIXELS)}
    # Of each pixel that is cut, all quarters.
    quarters = {
        Partition(p.order, 4 * (p.pixel // 4) + i) for p in taken if p.order for i in range(4)
    }
    return sorted((whole | quarters) - taken)
