"""What a run counts for Prometheus, on Ray's own metrics endpoint; shown by cluster/grafana.json.

The driver counts, from the ledger entries as they come back: whatever died on the way, a cell is
counted once, and workers do nothing for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ray.util.metrics import Counter, Gauge, Histogram

from raydeblend.pipeline.entries import LedgerEntry

SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Upper edges of the bins of the time that a cell takes in all stages."""


@dataclass(frozen=True)
class RunMetrics:
    """The metrics of a run; Ray puts ``ray_`` before each name."""

    cells: Counter
    sources: Counter
    blends: Counter
    flagged: Counter
    stage_seconds: Counter
    cell_seconds: Histogram
    left: Gauge
    memory: Gauge

    def count(self, entry: LedgerEntry) -> None:
        """Count one cell."""
        self.cells.inc(1, {"status": entry.status})
        # A counter takes nothing that is not positive.
        for counter, n in ((self.sources, entry.sources), (self.blends, entry.blends)):
            if n:
                counter.inc(n)
        for flag, n in entry.flags.items():
            if n:
                self.flagged.inc(n, {"flag": flag})
        for stage, seconds in entry.seconds.items():
            self.stage_seconds.inc(max(seconds, 1e-9), {"stage": stage})
        self.cell_seconds.observe(sum(entry.seconds.values()))
        self.memory.set(entry.peak_memory_mb * 2**20)


def make_metrics() -> RunMetrics:
    """Make the metrics of this process, which must be connected to Ray."""
    return RunMetrics(
        cells=Counter("raydeblend_cells", "Cells that ended", ("status",)),
        sources=Counter("raydeblend_sources", "Sources in shards written"),
        blends=Counter("raydeblend_blends", "Footprints with more than one source"),
        flagged=Counter("raydeblend_flagged", "Sources that carry a flag", ("flag",)),
        # A counter too, since Ray knows the sum of a histogram only from the middles of its bins.
        stage_seconds=Counter("raydeblend_stage_seconds", "Wall time of cells", ("stage",)),
        cell_seconds=Histogram(
            "raydeblend_cell_seconds", "Wall time of a cell in all stages", list(SECONDS)
        ),
        left=Gauge("raydeblend_cells_left", "Cells that this run has still to do"),
        memory=Gauge("raydeblend_cell_memory_bytes", "Peak memory of the last cell's processes"),
    )


def counted(entries: Iterable[LedgerEntry], total: int) -> Iterator[LedgerEntry]:
    """Pass on the entries of a run of `total` cells and count each."""
    metrics = make_metrics()
    metrics.left.set(total)
    for n, entry in enumerate(entries, start=1):
        metrics.count(entry)
        metrics.left.set(total - n)
        yield entry
