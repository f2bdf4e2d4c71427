"""Identifiers that depend on the tile and the pixel alone, never on how a tile was cut."""

from __future__ import annotations

from functools import cache
from hashlib import blake2b

import numpy as np
from numpy.typing import ArrayLike, NDArray

PIXEL_BITS = 17
"""Enough for tiles of 131,072 pixels a side."""
NAME_BITS = 63 - 2 * PIXEL_BITS


def source_id(tile_name: str, y: int, x: int) -> int:
    """Return a positive 63-bit identifier of a pixel of a tile.

    From the top: 29 bits of the BLAKE2b hash of the tile's name, 17 of the row, 17 of the column.
    Two tiles of a survey of n have the same 29 bits with a probability of n² / 2³⁰ (0.1 % for
    1,000 tiles); only sources on the very same pixel of such a pair would share an identifier.

    Raises
    ------
    ValueError
        If the pixel is outside 0 … 2¹⁷ − 1.
    """
    y, x = int(y), int(x)
    if not (0 <= y < 1 << PIXEL_BITS and 0 <= x < 1 << PIXEL_BITS):
        raise ValueError(f"pixel (y={y}, x={x}) of tile {tile_name!r} has no identifier")
    return _name_bits(tile_name) << 2 * PIXEL_BITS | y << PIXEL_BITS | x


def pixels(identifiers: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and column ``(n,)`` of the pixels that identifiers were made from."""
    ids = np.asarray(identifiers, dtype=np.int64)
    last = (1 << PIXEL_BITS) - 1
    return ids >> PIXEL_BITS & last, ids & last


def mixed(identifiers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return a well mixed number for each identifier (the finalizer of SplitMix64)."""
    bits = identifiers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(bits ^ (bits >> np.uint64(31)))


@cache
def _name_bits(tile_name: str) -> int:
    digest = blake2b(tile_name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 64 - NAME_BITS
