"""The files of a ledger: entries of their own, and tables that many were gathered into."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import pyarrow as pa

from raydeblend import storage
from raydeblend.pipeline.entries import DamagedEntryError, LedgerEntry, entry_path, read_entry
from raydeblend.pipeline.entry_tables import SCHEMA, from_table, latest, read_table, to_table
from raydeblend.pipeline.shards import set_file_aside

THREADS = 16
NAMED = 3
"""Damaged files that a warning names."""

log = logging.getLogger(__name__)

T = TypeVar("T")


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


def _read_tables(files: LedgerFiles) -> tuple[pa.Table, list[DamagedEntryError]]:
    read = [_whole(read_table, path) for path in files.tables]
    tables = [table for table in read if isinstance(table, pa.Table)]
    damaged = [error for error in read if isinstance(error, DamagedEntryError)]
    return pa.concat_tables([SCHEMA.empty_table(), *tables]), damaged


def read_ledger(out: str) -> pa.Table:
    """Read the whole ledger: a row per cell, of the last table or, if there is one, its own file.

    Damaged files are told of in the log and left out, as if their cells had never been done.
    """
    return try_ledger(out)[0]


def read_entries(out: str) -> list[LedgerEntry]:
    """Read the whole ledger as entries, in order of tile and cell."""
    return list(from_table(read_ledger(out)))


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
