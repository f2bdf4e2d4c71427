"""Entries of a run of many cells, gathered into tables.

Of a run of many cells the driver gathers the entries of those done, `ENTRIES_PER_TABLE` at a time,
into ``ledger/compact-<n>.parquet``, and removes the files only when the table is in place: a driver
killed in between leaves entries twice, never a cell without one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from raydeblend import catalog, storage
from raydeblend.pipeline.entries import LedgerEntry, entry_path
from raydeblend.pipeline.entry_tables import ENTRIES_PER_TABLE, to_table
from raydeblend.pipeline.ledger_files import list_ledger

TABLE = re.compile(r"/compact-(\d+)\.parquet$")


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
        storage.remove_files([entry_path(self.out, *entry.key) for entry in self.waiting])
        self.number, self.waiting = self.number + 1, []
