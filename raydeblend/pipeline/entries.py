"""The ledger's entries: one small file per cell, gathered into tables when there are many.

A cell's entry is written by the worker that did it, whole or not at all, under a name that the
cell alone decides.  Of a run of many cells the driver then gathers the entries of those done,
`GATHER` at a time, into ``ledger/compact-<n>.parquet``, and removes the files only when the table
is in place: a driver killed in between leaves entries twice, never a cell without one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from raydeblend import catalog, storage

PLAN_FAILURE = "plan.json"
GATHER = 10_000
"""Entries per table; a run of fewer cells keeps its files."""
THREADS = 16


@dataclass(frozen=True)
class LedgerEntry:
    """The outcome of one cell, or of a whole tile that could not be planned (`cell` is empty).

    Attributes
    ----------
    status
        ``done`` or ``failed``.
    reason
        Why it failed; empty if done.
    sources, blends, parents
        Rows of the shard, and the footprints, blended ones and all, whose brightest peak lies in
        the cell's inner region: each footprint counts in one cell.
    seconds
        Wall time per stage.
    peak_memory_mb
        Largest resident memory, in MiB, of the processes that worked on the cell.
    flags
        How many sources carry each of `raydeblend.flags.Flag`, by name.
    """

    tile: str
    cell: str
    status: str
    reason: str = ""
    sources: int = 0
    blends: int = 0
    parents: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mb: float = 0.0
    weights_hash: str = ""
    config_hash: str = ""
    flags: Mapping[str, int] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether the cell's shard is complete."""
        return self.status == "done"

    @property
    def key(self) -> tuple[str, str]:
        """Tile and cell."""
        return self.tile, self.cell


_TYPES = {
    "str": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "Mapping[str, float]": pa.map_(pa.string(), pa.float64()),
    "Mapping[str, int]": pa.map_(pa.string(), pa.int64()),
}
SCHEMA = pa.schema([(f.name, _TYPES[str(f.type)]) for f in fields(LedgerEntry)])
"""Of a table of entries; a column for each attribute."""
_MAPS = tuple(f.name for f in SCHEMA if pa.types.is_map(f.type))


def shard_path(out: str, tile: str, cell: str) -> str:
    """Return where a cell's rows lie; no tile name leads outside `out`."""
    return storage.join(out, "catalog", _folder(tile), f"cell={quote(cell, safe='')}.parquet")


def entry_path(out: str, tile: str, cell: str) -> str:
    """Return where a cell's ledger entry lies, or that of a tile without a plan."""
    name = f"cell={quote(cell, safe='')}.json" if cell else PLAN_FAILURE
    return storage.join(out, "ledger", _folder(tile), name)


def _folder(tile: str) -> str:
    # Percent-encoding is what readers of `key=value` paths decode.
    return f"tile={quote(tile, safe=' ,+')}"


def write_entry(out: str, entry: LedgerEntry) -> None:
    """Write one entry, replacing an earlier one of the same cell."""
    storage.write_bytes(entry_path(out, *entry.key), to_json(asdict(entry)))


def read_entry(path: str) -> LedgerEntry:
    """Read one entry.

    Raises
    ------
    ValueError, TypeError
        If the file is not a ledger entry.
    """
    return LedgerEntry(**json.loads(storage.read_bytes(path)))


def to_json(values: Mapping[str, object]) -> bytes:
    """Return JSON that is the same for equal values."""
    return json.dumps(values, indent=1, sort_keys=True).encode()


def to_table(entries: Iterable[LedgerEntry]) -> pa.Table:
    """Return a table of `SCHEMA`."""
    rows = [asdict(entry) | {name: [*getattr(entry, name).items()] for name in _MAPS}
            for entry in entries]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def from_table(table: pa.Table) -> Iterator[LedgerEntry]:
    """Yield the entries of a table."""
    for batch in table.to_batches(max_chunksize=GATHER):
        for row in batch.to_pylist():
            yield LedgerEntry(**row | {name: dict(row[name]) for name in _MAPS if name in row})


@dataclass(frozen=True)
class LedgerFiles:
    """The files of a ledger: tables in order of their numbers, and entries of their own."""

    tables: tuple[str, ...]
    loose: tuple[str, ...]


def list_ledger(out: str) -> LedgerFiles:
    """List the ledger's files, all at once."""
    paths = storage.list_files(storage.join(out, "ledger"))
    tables = [path for path in paths if path.endswith(".parquet")]
    return LedgerFiles(tuple(tables), tuple(path for path in paths if path.endswith(".json")))


def read_tables(files: LedgerFiles) -> pa.Table:
    """Read the gathered entries.

    Raises
    ------
    pyarrow.ArrowInvalid
        If a file is not a table of entries.
    """
    tables = [read_table(path) for path in files.tables]
    return pa.concat_tables([SCHEMA.empty_table(), *tables])


def read_table(path: str) -> pa.Table:
    """Read one file of gathered entries.

    Raises
    ------
    pyarrow.ArrowInvalid
        If it is not one.
    """
    table = catalog.from_bytes(storage.read_bytes(path))
    for column in SCHEMA:
        if column.name not in table.column_names:  # by an earlier version
            missing = pa.nulls(len(table), column.type).fill_null(_empty(column.type))
            table = table.append_column(column, missing)
    return table.select(SCHEMA.names).cast(SCHEMA)


def _empty(kind: pa.DataType) -> pa.Scalar:
    if pa.types.is_map(kind):
        return pa.scalar([], kind)
    return pa.scalar("" if pa.types.is_string(kind) else 0, kind)


def read_ledger(out: str) -> pa.Table:
    """Read the whole ledger: a row per cell, of the last table or, if there is one, its own file.

    Raises
    ------
    ValueError, TypeError
        If a file is not a ledger entry (pyarrow's errors are ValueErrors).
    """
    files = list_ledger(out)
    return latest(pa.concat_tables([read_tables(files), to_table(read_loose(files))]))


def read_loose(files: LedgerFiles) -> list[LedgerEntry]:
    """Read the entries that have files of their own, many at once.

    Raises
    ------
    ValueError, TypeError
        If a file is not a ledger entry.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(read_entry, files.loose))


def latest(table: pa.Table) -> pa.Table:
    """Return the last row of each cell, in order of tile and cell."""
    rows = table.select(["tile", "cell"]).append_column("row", pa.array(np.arange(len(table))))
    last = rows.group_by(["tile", "cell"]).aggregate([("row", "max")])
    return table.take(last.sort_by([("tile", "ascending"), ("cell", "ascending")])["row_max"])


def read_entries(out: str) -> list[LedgerEntry]:
    """Read the whole ledger as entries, in order of tile and cell."""
    return list(from_table(read_ledger(out)))


class Gatherer:
    """Gathers the entries of cells done into tables while a run goes on.

    Parameters
    ----------
    out
        The run's output.
    waiting
        Entries done that still have files of their own.
    """

    def __init__(self, out: str, waiting: Sequence[LedgerEntry] = ()) -> None:
        self.out = out
        self.waiting = list(waiting)
        self.number = len(list_ledger(out).tables)

    def add(self, entry: LedgerEntry) -> None:
        """Take an entry that has been written; a failed one keeps its file."""
        if entry.done:
            self.waiting.append(entry)
        if len(self.waiting) >= GATHER:
            self.gather()

    def close(self) -> None:
        """Gather the rest, if the run has tables at all."""
        if self.number and self.waiting:
            self.gather()

    def gather(self) -> None:
        """Write what waits as one table, then remove the files that it stands for."""
        path = storage.join(self.out, "ledger", f"compact-{self.number:05d}.parquet")
        storage.write_bytes(path, catalog.to_bytes(to_table(self.waiting)))
        _remove_files([entry_path(self.out, *entry.key) for entry in self.waiting])
        self.number, self.waiting = self.number + 1, []


def _remove_files(paths: Sequence[str]) -> None:
    """Remove the files of entries that a table holds."""
    storage.remove_files(paths)


def plain(values: Mapping[str, object]) -> dict[str, Any]:
    """Return values as they look after a round trip through JSON: tuples become lists."""
    result: dict[str, Any] = json.loads(to_json(values))
    return result
