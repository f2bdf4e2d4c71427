"""What the checks of a run's cells found, counted by kind."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from raydeblend.pipeline.entries import LedgerEntry

SHOWN = 8
"""Findings that a screen shows."""
BETWEEN = "; "
"""Stands between the faults of a cell in the ledger."""


@dataclass(frozen=True)
class Finding:
    """Faults that differ only in numbers: how many cells have them, and one example."""

    text: str
    n: int
    tile: str
    cell: str


class Findings:
    """Counts suspect cells without keeping them."""

    def __init__(self) -> None:
        self.n_cells = 0
        self.kinds: dict[str, Finding] = {}

    def add(self, tile: str, cell: str, suspect: str) -> None:
        """Add what the ledger says of a cell."""
        if not suspect:
            return
        self.n_cells += 1
        for fault in suspect.split(BETWEEN):
            kind = re.sub(r"\d+(\.\d+)?", "#", fault)
            first = self.kinds.get(kind, Finding(fault, 0, tile, cell))
            self.kinds[kind] = Finding(first.text, first.n + 1, first.tile, first.cell)

    def add_ledger(self, done: pa.Table) -> None:
        """Add the cells of a ledger."""
        suspect = done.filter(pc.not_equal(done["suspect"], ""))
        for row in suspect.select(["tile", "cell", "suspect"]).to_pylist():
            self.add(**row)

    def add_entry(self, entry: LedgerEntry) -> None:
        """Add one cell."""
        self.add(entry.tile, entry.cell, entry.suspect)

    def ranked(self) -> tuple[Finding, ...]:
        """Return the kinds, the most frequent first."""
        return tuple(sorted(self.kinds.values(), key=lambda found: -found.n))


def finding_lines(findings: Sequence[Finding], n_suspect: int, n_cells: int) -> Iterator[str]:
    """Yield the lines of a summary."""
    if not n_suspect:
        return
    yield f"{n_suspect} of {n_cells} cells are suspect:"
    for found in findings[:SHOWN]:
        more = f" (and {found.n - 1} like it)" if found.n > 1 else ""
        yield f"  {found.tile} {found.cell}: {found.text}{more}"
    if len(findings) > SHOWN:
        yield f"  and {len(findings) - SHOWN} other findings, in the ledger"
