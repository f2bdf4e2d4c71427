"""What a run cost: core-seconds by stage, memory, and the cells that took longest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raydeblend.evaluate.common.tables import Table, number
from raydeblend.pipeline.entries import LedgerEntry

SLOWEST = 5
HOUR = 3600.0


def cost_tables(entries: Sequence[LedgerEntry], area: float) -> list[Table]:
    """Return the cost by stage and the slowest cells.

    Parameters
    ----------
    area
        In square degrees, of the cells that are done.
    """
    return [_stages(entries, area), _slowest(entries)]


def core_seconds(entries: Sequence[LedgerEntry]) -> float:
    """Return the seconds of all stages of all cells."""
    return sum(sum(entry.seconds.values()) for entry in entries)


def _stages(entries: Sequence[LedgerEntry], area: float) -> Table:
    names = list(dict.fromkeys(name for entry in entries for name in entry.seconds))
    total, sources = core_seconds(entries), sum(entry.sources for entry in entries)
    spent = {name: sum(entry.seconds.get(name, 0.0) for entry in entries) for name in names}
    rows = [_stage(name, seconds, total, area, sources) for name, seconds in spent.items()]
    rows.append(_stage("all", total, total, area, sources))
    memory = [entry.peak_memory_mb for entry in entries if entry.peak_memory_mb]
    peak = f" Largest memory of a process: {max(memory):,.0f} MiB." if memory else ""
    before = ("Seconds that each stage took, added up over cells: a process works on one cell at"
              f" a time, on one thread, so these are core-seconds.{peak}",)  # fmt: skip
    header = ("stage", "core-seconds", "part", "core-hours / deg²", "ms / source")
    return Table(header, rows, "Cost", before)


def _stage(name: str, seconds: float, total: float, area: float, sources: int) -> list[str]:
    return [
        name,
        f"{seconds:,.1f}",
        number(seconds / total if total else np.nan, ".1%"),
        number(seconds / HOUR / area if area else np.nan, ".1f"),
        number(1000 * seconds / sources if sources else np.nan, ".1f"),
    ]


def _slowest(entries: Sequence[LedgerEntry]) -> Table:
    slow = sorted(entries, key=lambda entry: -sum(entry.seconds.values()))[:SLOWEST]
    rows = [
        [
            entry.tile,
            entry.cell,
            f"{sum(entry.seconds.values()):.1f}",
            f"{entry.sources:,}",
            f"{entry.peak_memory_mb:,.0f}",
        ]
        for entry in slow
    ]
    return Table(("tile", "cell", "core-seconds", "sources", "MiB"), rows, "Slowest cells")
