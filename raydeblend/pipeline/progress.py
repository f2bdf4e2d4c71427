"""How far a run is: a bar on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from raydeblend.pipeline.entries import LedgerEntry

LOG_EVERY_S = 10.0

log = logging.getLogger(__name__)


def track(entries: Iterable[LedgerEntry], total: int, show: bool) -> Iterator[LedgerEntry]:
    """Pass on `entries`, of which there will be `total`, and show how many came."""
    if not show:
        return iter(entries)
    console = Console(stderr=True)
    return _bar(entries, total, console) if console.is_terminal else _lines(entries, total)


def _bar(entries: Iterable[LedgerEntry], total: int, console: Console) -> Iterator[LedgerEntry]:
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    text = TextColumn("cells {task.fields[rates]}")
    with Progress(text, *columns, console=console) as progress:
        tally = Tally(total)
        bar = progress.add_task("", total=total, rates="")
        for entry in entries:
            tally.add(entry)
            progress.update(bar, advance=1, rates=tally.rates())
            yield entry


def _lines(entries: Iterable[LedgerEntry], total: int) -> Iterator[LedgerEntry]:
    tally, last = Tally(total), time.monotonic()
    for entry in entries:
        tally.add(entry)
        if time.monotonic() - last > LOG_EVERY_S or tally.cells == total:
            log.info("%d of %d cells; %s; %s", tally.cells, total, tally.rates(), tally.left())
            last = time.monotonic()
        yield entry


class Tally:
    """Counts what came in since it was made."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.cells = self.sources = self.failed = 0
        self.start = time.monotonic()

    def add(self, entry: LedgerEntry) -> None:
        """Count one cell."""
        self.cells += 1
        self.sources += entry.sources
        self.failed += not entry.done

    def rates(self) -> str:
        """Say how many sources came, how fast, and how many cells failed."""
        rate = self.sources / max(time.monotonic() - self.start, 1e-3)
        return f"{self.sources} sources, {rate:.1f}/s, {self.failed} failed"

    def left(self) -> str:
        """Say how much time is left if the cells to come take as long as those that came."""
        elapsed = time.monotonic() - self.start
        seconds = elapsed / max(self.cells, 1) * (self.total - self.cells)
        return f"{timedelta(seconds=round(seconds))} left"
