"""How far a run is: a bar on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from raydeblend.pipeline.entries import LedgerEntry

LOG_EVERY_S = 10.0

log = logging.getLogger(__name__)


def track(
    entries: Iterable[LedgerEntry], total: int, show: bool, before: int = 0
) -> Iterator[LedgerEntry]:
    """Pass on the `entries` of a run and show how many cells are done.

    Parameters
    ----------
    total, before
        Cells of the whole run, and how many of them were done before.
    show
        Whether to show it; never where the log tells no more than warnings.
    """
    if not show or not log.isEnabledFor(logging.INFO):
        return iter(entries)
    console, tally = Console(stderr=True), Tally(total, before)
    return _bar(entries, tally, console) if console.is_terminal else _lines(entries, tally)


def track_json(
    entries: Iterable[LedgerEntry], total: int, show: bool, before: int = 0
) -> Iterator[LedgerEntry]:
    """Pass on the `entries` of a run and say of each, in a line of JSON, what became of the cell.

    The parameters are those of `track`; the lines are on standard error.
    """
    for n, entry in enumerate(entries, start=before + 1):
        if show:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = {"time": now, **asdict(entry), "n": n, "of": total}
            print(json.dumps(line), file=sys.stderr, flush=True)
        yield entry


def _bar(entries: Iterable[LedgerEntry], tally: Tally, console: Console) -> Iterator[LedgerEntry]:
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    text = TextColumn("cells {task.fields[rates]}")
    left = TextColumn("{task.fields[left]}")
    with Progress(text, *columns, left, console=console) as progress:
        bar = progress.add_task(
            "", total=tally.total, completed=tally.before, rates="the first is on its way", left=""
        )
        for entry in entries:
            tally.add(entry)
            _tell(entry)
            progress.update(bar, advance=1, rates=tally.rates(), left=tally.left())
            yield entry


def _lines(entries: Iterable[LedgerEntry], tally: Tally) -> Iterator[LedgerEntry]:
    total, last = tally.total, time.monotonic()
    for entry in entries:
        tally.add(entry)
        _tell(entry)
        if time.monotonic() - last > LOG_EVERY_S or tally.cells == total:
            log.info("%d of %d cells; %s; %s", tally.cells, total, tally.rates(), tally.left())
            last = time.monotonic()
        yield entry


def _tell(entry: LedgerEntry) -> None:
    """Say what became of a cell, where the log tells everything."""
    came = f"{entry.sources} sources" if entry.done else entry.reason
    log.debug("%s %s: %s, %.1f s", entry.tile, entry.cell, came, sum(entry.seconds.values()))


class Tally:
    """Counts what came in since it was made, of `total` cells of which some came `before`."""

    def __init__(self, total: int, before: int = 0) -> None:
        self.total, self.before = total, before
        self.cells = before
        self.sources = self.failed = 0
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
        seconds = elapsed / max(self.cells - self.before, 1) * (self.total - self.cells)
        return f"{timedelta(seconds=round(seconds))} left"
