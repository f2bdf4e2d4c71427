"""What a run came to: counted as the cells come in, printed on one screen and kept as JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from raydeblend import storage
from raydeblend.pipeline.cost import Cost
from raydeblend.pipeline.entries import LedgerEntry, to_json
from raydeblend.pipeline.findings import Finding, Findings, finding_lines
from raydeblend.pipeline.ledger import SUMMARY_FILE
from raydeblend.wording import amount

SHOWN = 8
"""Reasons of failure, and flags, that a screen shows."""
LISTED = 12
"""Up to this many failed cells are listed one by one; more are counted by reason."""
SUMMED = ("sources", "blends", "parents", "bytes_read", "bytes_written")
"""What is counted in each entry of the ledger."""


@dataclass(frozen=True)
class RunSummary:
    """What a run came to; counts are of the whole catalog, also of what was done before.

    Attributes
    ----------
    n_cells
        Cells in the ledger, and tiles that could not be planned.
    n_sources, n_blends, n_parents
        Rows of the catalog; footprints of more than one source, and all.
    seconds
        Wall time of this run.
    stage_seconds
        Of all cells together, by stage.
    flags
        How many sources carry each flag, by name.
    n_suspect, findings
        Cells in which the run's checks of itself found something, and what by kind.
    n_blank
        Cells without a usable pixel.
    n_left
        Cells that this run was not asked to do, and no other has done.
    cost
        Core-hours, bytes and area.
    """

    n_cells: int
    n_failed: int
    failures: tuple[LedgerEntry, ...]
    n_sources: int
    n_blends: int
    seconds: float
    catalog: str
    ledger: str
    n_parents: int = 0
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    flags: Mapping[str, int] = field(default_factory=dict)
    n_suspect: int = 0
    findings: tuple[Finding, ...] = ()
    n_blank: int = 0
    n_left: int = 0
    cost: Cost = field(default_factory=Cost)

    @property
    def is_blank(self) -> bool:
        """Whether no cell has a usable pixel."""
        return 0 < self.n_cells == self.n_blank


@dataclass(frozen=True)
class Reason:
    """Failures of one kind: how many, and one of them."""

    text: str
    n: int
    example: LedgerEntry


class Totals:
    """Adds up a ledger without keeping it, except for what failed.

    Parameters
    ----------
    done
        The ledger of cells that were done before, see `raydeblend.pipeline.entries`.
    """

    def __init__(self, done: pa.Table) -> None:
        self.counts = Counter({name: pc.sum(done[name]).as_py() or 0 for name in SUMMED})
        self.counts["cells"] = len(done)
        self.counts["blank"] = pc.sum(pc.equal(done["unusable"], 1.0)).as_py() or 0
        self.seconds = _sums(done["seconds"])
        self.flags = _sums(done["flags"])
        self.failures: list[LedgerEntry] = []
        self.findings = Findings()
        self.findings.add_ledger(done)

    def add(self, entry: LedgerEntry) -> None:
        """Add one cell, or a tile that could not be planned."""
        self.counts.update(cells=1, **{name: getattr(entry, name) for name in SUMMED})
        self.counts["blank"] += entry.unusable == 1
        self.seconds.update(entry.seconds)
        self.flags.update(entry.flags)
        self.findings.add_entry(entry)
        if not entry.done:
            self.failures.append(entry)

    def add_all(self, entries: Iterable[LedgerEntry]) -> None:
        """Add cells as they come."""
        for entry in entries:
            self.add(entry)

    def summarize(
        self,
        out: str,
        seconds: float,
        n_left: int = 0,
        square_degrees: float = 0.0,
        price: float | None = None,
    ) -> RunSummary:
        """Return what it came to; `price` is that of a core-hour."""
        cost = Cost(
            core_seconds=self.seconds.total(),
            bytes_read=self.counts["bytes_read"],
            bytes_written=self.counts["bytes_written"],
            square_degrees=square_degrees,
            price=price,
        )
        return RunSummary(
            n_cells=self.counts["cells"],
            n_failed=len(self.failures),
            failures=tuple(sorted(self.failures, key=lambda entry: entry.key)),
            n_sources=self.counts["sources"],
            n_blends=self.counts["blends"],
            seconds=seconds,
            catalog=storage.join(out, "catalog"),
            ledger=storage.join(out, "ledger"),
            n_parents=self.counts["parents"],
            stage_seconds={name: round(value, 3) for name, value in self.seconds.items()},
            flags=dict(sorted(self.flags.items())),
            n_suspect=self.findings.n_cells,
            findings=self.findings.ranked(),
            n_blank=self.counts["blank"],
            n_left=n_left,
            cost=cost,
        )


def _sums(column: pa.ChunkedArray) -> Counter[str]:
    """Return the sums by key of a column of maps."""
    sums: Counter[str] = Counter()
    for chunk in column.chunks:
        pairs = pa.table({"key": chunk.keys, "value": chunk.items})
        totals = pairs.group_by("key").aggregate([("value", "sum")])
        sums.update(dict(zip(*(totals[n].to_pylist() for n in ("key", "value_sum")), strict=True)))
    return sums


def group_failures(summary: RunSummary) -> list[Reason]:
    """Return the kinds of failures, the most frequent first.

    Failures are of one kind if their reasons differ only in the tile, the file and numbers.
    """
    kinds: dict[str, list[LedgerEntry]] = {}
    for entry in summary.failures:
        kinds.setdefault(_kind(entry), []).append(entry)
    ordered = sorted(kinds.items(), key=lambda item: -len(item[1]))
    return [Reason(text, len(entries), entries[0]) for text, entries in ordered]


def _kind(entry: LedgerEntry) -> str:
    without_path = re.sub(r"\S*/\S*", "(file)", entry.reason)
    return re.sub(r"\d+(\.\d+)?", "#", without_path.replace(entry.tile, "(tile)"))


def write_summary(out: str, summary: RunSummary) -> str:
    """Write ``summary.json`` and return its path."""
    failures = [
        {"reason": r.text, "cells": r.n, "tile": r.example.tile, "cell": r.example.cell,
         "example": r.example.reason}
        for r in group_failures(summary)
    ]  # fmt: skip
    path = storage.join(out, SUMMARY_FILE)
    values = {
        "cells": summary.n_cells,
        "failed": summary.n_failed,
        "sources": summary.n_sources,
        "parents": summary.n_parents,
        "blends": summary.n_blends,
        "seconds": round(summary.seconds, 3),
        "seconds_by_stage": dict(summary.stage_seconds),
        "flags": dict(summary.flags),
        "failures": failures,
        "suspect": summary.n_suspect,
        "findings": [asdict(found) for found in summary.findings],
        "blank": summary.n_blank,
        "left": summary.n_left,
        **summary.cost.to_dict(),
    }
    storage.write_bytes(path, to_json(values))
    return path


def summary_lines(summary: RunSummary) -> Iterator[str]:
    """Yield the lines of a one-screen summary."""
    yield (
        f"{amount(summary.n_sources, 'source')}, {amount(summary.n_blends, 'blend')} in "
        f"{amount(summary.n_cells, 'cell')}, {summary.seconds:.1f} s"
    )
    spent = sum(summary.stage_seconds.values())
    if spent:
        shares = (f"{n} {s:.1f}" for n, s in summary.stage_seconds.items())
        yield f"seconds of work: {spent:.1f} ({', '.join(shares)})"
    rate = summary.cost.to_dict()
    if rate["core_hours_per_deg2"] is not None:
        priced = rate["price_per_1000_deg2"]
        more = "" if priced is None else f", {priced:,.2f} for 1,000 deg²"
        yield f"core-hours per square degree: {rate['core_hours_per_deg2']:.3g}{more}"
    if summary.flags:
        common = sorted(summary.flags.items(), key=lambda item: -item[1])[:SHOWN]
        yield f"flags: {', '.join(f'{name} {n}' for name, n in common)}"
    yield f"catalog: {summary.catalog}"
    yield f"ledger: {summary.ledger}"
    if summary.n_left:
        yield f"{amount(summary.n_left, 'cell')} left for another run, see `raydeblend verify`"
    if summary.is_blank:
        yield "no cell has a usable pixel: the masks rule out the whole input"
    if summary.failures:
        yield f"{amount(summary.n_failed, 'cell')} failed:"
        yield from _failure_lines(summary)
    yield from finding_lines(summary.findings, summary.n_suspect, summary.n_cells)


def _failure_lines(summary: RunSummary) -> Iterator[str]:
    """Yield a line for each cell that failed or, if these are many, for each kind of reason."""
    if len(summary.failures) <= LISTED:
        yield from (_told(entry) for entry in summary.failures)
        return
    reasons = group_failures(summary)
    for reason in reasons[:SHOWN]:
        yield _told(reason.example) + (f" (and {reason.n - 1} like it)" if reason.n > 1 else "")
    if len(reasons) > SHOWN:
        yield f"  and {len(reasons) - SHOWN} other reasons, in {SUMMARY_FILE}"


def _told(entry: LedgerEntry) -> str:
    return f"  {f'{entry.tile} {entry.cell}'.strip()}: {entry.reason}"
