"""The ledger's entries: one small file per cell, gathered into tables when there are many.

A cell's entry is written by the worker that did it, whole or not at all, under a name that the
cell alone decides.  Of a run of many cells the driver then gathers the entries of those done,
`ENTRIES_PER_TABLE` at a time, into ``ledger/compact-<n>.parquet``, and removes the files only when
the table is in place: a driver killed in between leaves entries twice, never a cell without one.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from raydeblend import catalog, storage
from raydeblend.pipeline.shards import quote_name, set_file_aside
from raydeblend.pipeline.shards import shard_path as shard_path

PLAN_FAILURE = "plan.json"
TABLE = re.compile(r"/compact-(\d+)\.parquet$")
ENTRIES_PER_TABLE = 10_000
"""Entries per table; a run of fewer cells keeps its files."""
THREADS = 16
NAMED = 3
"""Damaged files that a warning names."""
STATUSES = ("done", "failed")

log = logging.getLogger(__name__)

T = TypeVar("T")


class DamagedEntryError(ValueError):
    """A file of the ledger that tells nothing: empty, cut off, or something else.

    Attributes
    ----------
    path
        The file.
    """

    def __init__(self, path: str, why: object) -> None:
        super().__init__(f"{path} {why}")
        self.path = path


@dataclass(frozen=True)
class LedgerEntry:
    """The outcome of one cell, or of a whole tile that could not be planned (`cell` is empty).

    Attributes
    ----------
    status
        ``done`` or ``failed``.
    reason
        Why it failed; if done empty, or why a second pass over its limited footprints failed.
    sources, blends, parents
        Rows of the shard, and the footprints, blended ones and all, whose brightest peak lies in
        the cell's inner region: each footprint counts in one cell.
    seconds
        Wall time per stage.
    peak_memory_mb
        Largest resident memory, in MiB, of the processes that worked on the cell.
    noise_correlation
        Of each band, the noise on the scale of the PSF over what independent pixels of the variance
        plane would have; errors and thresholds are larger by as much.  Without bands for which it
        is not known.
    bytes_read, bytes_written
        Of pixels, as they are once unpacked, and of the shard and the table of footprints.
    flags
        How many sources carry each of `raydeblend.flags.Flag`, by name.
    injected
        Sources that were injected into the copy of the cell.
    completeness_50
        Of each band the AB magnitude at which half of them are found, where they tell.
    injection_seconds
        Wall time, of `seconds`, that went to them.
    injection_failure
        Why the copy told nothing, if something went wrong with it.
    suspect
        What the checks of the cell found (`raydeblend.checks`), in words; empty for nothing.
    check_failure
        Why the checks told nothing, if something went wrong with them.
    peaks
        Detected peaks in the cell's inner region, and ``unpublished`` how many of these are no row,
        by `raydeblend.parents.Unpublished`.
    shortfalls
        Footprints of the cell that were not deblended in full, by `raydeblend.parents.Shortfall`.
    retried
        Footprints that were deblended in a second pass, with more work.
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
    noise_correlation: Mapping[str, float] = field(default_factory=dict)
    injected: int = 0
    completeness_50: Mapping[str, float] = field(default_factory=dict)
    injection_seconds: float = 0.0
    injection_failure: str = ""
    suspect: str = ""
    check_failure: str = ""
    peaks: int = 0
    unpublished: Mapping[str, int] = field(default_factory=dict)
    shortfalls: Mapping[str, int] = field(default_factory=dict)
    retried: int = 0
    bytes_read: int = 0
    bytes_written: int = 0

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
_PYTHON: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
SCHEMA = pa.schema([(f.name, _TYPES[str(f.type)]) for f in fields(LedgerEntry)])
"""Of a table of entries; a column for each attribute."""
_NEEDED = ("tile", "cell", "status")
_MAPS = tuple(f.name for f in SCHEMA if pa.types.is_map(f.type))


def entry_path(out: str, tile: str, cell: str) -> str:
    """Return where a cell's ledger entry lies, or that of a tile without a plan."""
    name = f"cell={quote(cell, safe='')}.json" if cell else PLAN_FAILURE
    return storage.join(out, "ledger", f"tile={quote_name(tile)}", name)


def write_entry(out: str, entry: LedgerEntry) -> None:
    """Write one entry, replacing an earlier one of the same cell."""
    storage.write_bytes(entry_path(out, *entry.key), to_json(asdict(entry)))


def read_entry(path: str) -> LedgerEntry:
    """Read one entry; what a later version adds to one is left out.

    Raises
    ------
    DamagedEntryError
        If the file is not a ledger entry.
    """
    data = storage.read_bytes(path)
    try:
        return _to_entry(json.loads(data))
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedEntryError(path, f"is not a ledger entry: {error}") from error


def _to_entry(values: object) -> LedgerEntry:
    if not isinstance(values, dict):
        raise TypeError("it is no JSON object")
    known = {f.name: values[f.name] for f in fields(LedgerEntry) if f.name in values}
    for f in fields(LedgerEntry):
        if f.name in known and not _fits(known[f.name], str(f.type)):
            raise TypeError(f"{f.name} cannot be {known[f.name]!r}")
    entry = LedgerEntry(**known)
    if not entry.tile or entry.status not in STATUSES:
        raise ValueError(f"it has tile {entry.tile!r} and status {entry.status!r}")
    return entry


def _fits(value: object, kind: str) -> bool:
    """Tell whether a value read from JSON is of a field's type, one of `_TYPES`."""
    if kind.startswith("Mapping"):
        number = kind.removesuffix("]").split()[-1]
        return isinstance(value, dict) and all(_fits(v, number) for v in value.values())
    return not isinstance(value, bool) and isinstance(value, _PYTHON[kind])


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
    for batch in table.to_batches(max_chunksize=ENTRIES_PER_TABLE):
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
    """Read the entries in tables; a damaged table is told of in the log and left out."""
    table, damaged = _read_tables(files)
    _warn(damaged)
    return table


def _read_tables(files: LedgerFiles) -> tuple[pa.Table, list[DamagedEntryError]]:
    read = [_whole(read_table, path) for path in files.tables]
    tables = [table for table in read if isinstance(table, pa.Table)]
    damaged = [error for error in read if isinstance(error, DamagedEntryError)]
    return pa.concat_tables([SCHEMA.empty_table(), *tables]), damaged


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


def read_ledger(out: str) -> pa.Table:
    """Read the whole ledger: a row per cell, of the last table or, if there is one, its own file.

    Damaged files are told of in the log and left out, as if their cells had never been done.
    """
    return try_ledger(out)[0]


def set_aside(damaged: Iterable[DamagedEntryError]) -> None:
    """Give damaged files the ending ``.damaged``, before their cells are done again."""
    for error in damaged:
        set_file_aside(error.path)


def try_ledger(out: str) -> tuple[pa.Table, list[DamagedEntryError]]:
    """Read the whole ledger as `read_ledger`, and return the damaged files too."""
    files = list_ledger(out)
    gathered, damaged = _read_tables(files)
    read = try_loose(files)
    loose = to_table(entry for entry in read if isinstance(entry, LedgerEntry))
    damaged += [error for error in read if isinstance(error, DamagedEntryError)]
    _warn(damaged)
    return latest(pa.concat_tables([gathered, loose])), damaged


def read_loose(files: LedgerFiles) -> list[LedgerEntry]:
    """Read the entries that have files of their own, many at once.

    A damaged one is told of in the log and left out.
    """
    read = try_loose(files)
    _warn([entry for entry in read if isinstance(entry, DamagedEntryError)])
    return [entry for entry in read if isinstance(entry, LedgerEntry)]


def try_loose(files: LedgerFiles) -> list[LedgerEntry | DamagedEntryError]:
    """Read the entries that have files of their own; of a damaged one return what is wrong."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(partial(_whole, _read_own), files.loose))


def _read_own(path: str) -> LedgerEntry:
    """Read an entry that must be of the cell that its path names."""
    entry = read_entry(path)
    if path.split("/")[-2:] != entry_path("", *entry.key).split("/")[-2:]:
        other = f"cell {entry.cell} of tile {entry.tile}"
        raise DamagedEntryError(path, f"is the entry of another cell, {other}")
    return entry


def _whole(read: Callable[[str], T], path: str) -> T | DamagedEntryError:
    try:
        return read(path)
    except DamagedEntryError as error:
        return error


def _warn(damaged: Sequence[DamagedEntryError]) -> None:
    for error in damaged[:NAMED]:
        log.warning("%s; its cells count as not done", storage.explain(error))
    if len(damaged) > NAMED:
        log.warning("%d more files of the ledger are damaged", len(damaged) - NAMED)


def latest(table: pa.Table) -> pa.Table:
    """Return the last row of each cell, in order of tile and cell."""
    rows = table.select(["tile", "cell"]).append_column("row", pa.array(np.arange(len(table))))
    last = rows.group_by(["tile", "cell"]).aggregate([("row", "max")])
    return table.take(last.sort_by([("tile", "ascending"), ("cell", "ascending")])["row_max"])


def read_entries(out: str) -> list[LedgerEntry]:
    """Read the whole ledger as entries, in order of tile and cell."""
    return list(from_table(read_ledger(out)))


class LedgerCompactor:
    """Collects the entries of cells done in tables while a run goes on.

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
        # Not how many there are: one that was damaged may be gone.
        numbers = [int(n) for path in list_ledger(out).tables for n in TABLE.findall(path)]
        self.number = max(numbers, default=-1) + 1

    def add(self, entry: LedgerEntry) -> None:
        """Take an entry that has been written; a failed one keeps its file."""
        if entry.done:
            self.waiting.append(entry)
        if len(self.waiting) >= ENTRIES_PER_TABLE:
            self.write_table()

    def close(self) -> None:
        """Write the rest as a table, if the run has tables at all."""
        if self.number and self.waiting:
            self.write_table()

    def write_table(self) -> None:
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
