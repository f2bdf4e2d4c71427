"""Tables of ledger entries, a row per cell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields

import numpy as np
import pyarrow as pa

from raydeblend import catalog, storage
from raydeblend.pipeline.entries import DamagedEntryError, LedgerEntry

ENTRIES_PER_TABLE = 10_000
"""Entries per table; a run of fewer cells keeps its files."""
_TYPES = {
    "str": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "Mapping[str, float]": pa.map_(pa.string(), pa.float64()),
    "Mapping[str, int]": pa.map_(pa.string(), pa.int64()),
}
SCHEMA = pa.schema([(f.name, _TYPES[str(f.type)]) for f in fields(LedgerEntry)])
"""Of a table of entries; a column for each attribute."""
_NEEDED = ("tile", "cell", "status")
_MAPS = tuple(f.name for f in SCHEMA if pa.types.is_map(f.type))


def to_table(entries: Iterable[LedgerEntry]) -> pa.Table:
    """Return a table of `SCHEMA`."""
    rows = [asdict(entry) | {name: [*getattr(entry, name).items()] for name in _MAPS}
            for entry in entries]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def from_table(table: pa.Table) -> Iterator[LedgerEntry]:
    """Yield the entries of a table."""
    for batch in table.to_batches(max_chunksize=ENTRIES_PER_TABLE):
        for row in batch.to_pylist():
            yield LedgerEntry(**row | {name: dict(row[name]) for name in _MAPS if name in row})


def read_table(path: str) -> pa.Table:
    """Read one file of gathered entries.

    Raises
    ------
    DamagedEntryError
        If it is not one.
    """
    data = storage.read_bytes(path)
    try:
        return _to_ledger(catalog.from_bytes(data))
    except (pa.ArrowException, KeyError) as error:
        raise DamagedEntryError(path, f"cannot be read: {error}") from error


def _to_ledger(table: pa.Table) -> pa.Table:
    for column in SCHEMA:
        if column.name not in table.column_names and column.name not in _NEEDED:
            # By an earlier version.
            missing = pa.nulls(len(table), column.type).fill_null(_empty(column.type))
            table = table.append_column(column, missing)
    table = table.select(SCHEMA.names).cast(SCHEMA)
    if any(column.null_count for column in table.columns):
        raise pa.ArrowInvalid("it has rows with nulls")
    return table


def _empty(kind: pa.DataType) -> pa.Scalar:
    if pa.types.is_map(kind):
        return pa.scalar([], kind)
    return pa.scalar("" if pa.types.is_string(kind) else 0, kind)


def latest(table: pa.Table) -> pa.Table:
    """Return the last row of each cell, in order of tile and cell."""
    rows = table.select(["tile", "cell"]).append_column("row", pa.array(np.arange(len(table))))
    last = rows.group_by(["tile", "cell"]).aggregate([("row", "max")])
    return table.take(last.sort_by([("tile", "ascending"), ("cell", "ascending")])["row_max"])
