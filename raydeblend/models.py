"""The table of models: the image of each source, cut to the pixels that it lights.

``OUT/models`` has one file for each cell, as the catalog has, if the run saved them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from raydeblend.catalog import Column, schema_of
from raydeblend.tile import Box, FloatArray

KEPT_BITS = 12
"""Of the 23 of a float32's fraction: pixels are kept to 1 part in 8,000, and compress to half."""
CORNER = ("y0", "x0")
SHAPE = ("ny", "nx")

_PLACE = (
    Column("source_id", pa.int64(), "", "identifies the source, as in the catalog"),
    Column("parent_id", pa.int64(), "", "identifies its footprint"),
    Column("y0", pa.int32(), "pix", "first row of the model in the tile"),
    Column("x0", pa.int32(), "pix", "first column of the model in the tile"),
    Column("ny", pa.int32(), "pix", "rows of the model"),
    Column("nx", pa.int32(), "pix", "columns of the model"),
)


@dataclass(frozen=True)
class SourceModel:
    """The image of one source.

    Attributes
    ----------
    box
        Its pixels of the tile.
    light
        ``(bands, h, w)`` in nJy, seen through the PSF.
    """

    source_id: int
    parent_id: int
    box: Box
    light: FloatArray


def columns(bands: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns of a table of models in `bands`, in order."""
    pixels = pa.list_(pa.field("item", pa.float32(), nullable=False))
    lights = (
        Column(f"model_{band}", pixels, "nJy", f"pixels of the model in {band}, row after row")
        for band in bands
    )
    return (*_PLACE, *lights)


def to_table(models: Sequence[SourceModel], bands: Sequence[str]) -> pa.Table:
    """Return a table of models, ordered by source."""
    ordered = sorted(models, key=lambda model: model.source_id)
    schema = schema_of(columns(bands))
    place = [[m.source_id, m.parent_id, m.box.y0, m.box.x0, *m.box.shape] for m in ordered]
    arrays = [pa.array([row[i] for row in place], schema.field(i).type) for i in range(len(_PLACE))]
    for i in range(len(bands)):
        flat = [_rounded(model.light[i]).ravel() for model in ordered]
        arrays.append(pa.array(flat, schema.field(len(_PLACE) + i).type))
    return pa.Table.from_arrays(arrays, schema=schema)


def from_table(table: pa.Table, bands: Sequence[str]) -> Iterator[SourceModel]:
    """Yield the models of a table."""
    for row in table.to_pylist():
        shape = tuple(row[name] for name in SHAPE)
        y0, x0 = (row[name] for name in CORNER)
        light = [np.array(row[f"model_{band}"], np.float32).reshape(shape) for band in bands]
        box = Box(y0, x0, y0 + shape[0], x0 + shape[1])
        yield SourceModel(row["source_id"], row["parent_id"], box, np.stack(light))


def _rounded(values: FloatArray) -> FloatArray:
    """Return float32 values with fewer bits, rounded to the nearest."""
    drop = np.finfo(np.float32).nmant - KEPT_BITS
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half = np.uint32(1 << (drop - 1))
    return ((bits + half) >> drop << drop).astype(np.uint32).view(np.float32)
