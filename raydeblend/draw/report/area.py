"""The area of sky that a run covers, where tiles overlap counted once."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from raydeblend.pipeline.ownership import is_primary, neighbors_of
from raydeblend.tile import TileHeader

SIDE = 48
"""Places along each side of a tile that are asked for who owns them."""


def owned_parts(headers: Mapping[str, TileHeader]) -> dict[str, float]:
    """Return the part of each tile's area that no other tile owns, by geometry."""
    tiles = list(headers.values())
    return {
        tile.name: _owned(tile, [tiles[j] for j in near.tolist()])
        for tile, near in zip(tiles, neighbors_of(tiles), strict=True)
    }


def _owned(header: TileHeader, neighbors: list[TileHeader]) -> float:
    middles = (np.arange(SIDE) + 0.5) / SIDE
    rows, columns = header.shape
    y, x = np.meshgrid(middles * rows - 0.5, middles * columns - 0.5, indexing="ij")
    return float(is_primary(header, neighbors, np.column_stack([x.ravel(), y.ravel()])).mean())
