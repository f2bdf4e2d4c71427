"""How far a run is, from its first second: a live bar on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.text import Text

from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.under_way import UnderWay
from raydeblend.terminal import bar, duration, is_quiet, live, repeated, terminal
from raydeblend.wording import amount

LOG_EVERY_S = 10.0

log = logging.getLogger(__name__)


class Watch:
    """What is to be seen of a run.

    Attributes
    ----------
    doing
        What it does before its first cell.
    tally
        Of its cells, once they are known.
    """

    def __init__(self) -> None:
        self.doing = ""
        self.tally: Tally | None = None
        self.start = time.monotonic()

    def say(self, doing: str) -> None:
        """Show what the run does now."""
        self.doing = doing

    def track(
        self, entries: Iterable[LedgerEntry], total: int, before: int = 0
    ) -> Iterator[LedgerEntry]:
        """Pass on the `entries` of a run and count them.

        Parameters
        ----------
        total, before
            Cells of the whole run, and how many of them were done before.
        """
        tally = self.tally = Tally(total, before)
        for entry in entries:
            tally.add(entry)
            _tell(entry)
            yield entry

    def line(self) -> str:
        """Say in a line how far it is."""
        if self.tally is None:
            return self.doing
        tally = self.tally
        parts = (f"{tally.cells} of {tally.total} cells", under_way(), tally.rates(), tally.left())
        return "; ".join(part for part in parts if part)

    def render(self) -> RenderableType:
        """Draw a bar, and below it what is under way."""
        tally, elapsed = self.tally, duration(time.monotonic() - self.start)
        if tally is None:
            return bar(None, 1, elapsed, self.doing)
        cells = f"{tally.cells} of {tally.total} cells"
        said = "; ".join(part for part in (under_way(), tally.rates()) if part)
        return Group(bar(tally.cells, tally.total, cells, elapsed, tally.left()), Text(said))


def under_way() -> str:
    """Say how many blocks of cells are with a worker, by stage."""
    return ", ".join(f"{stage} {n}" for stage, n in UnderWay.counts.items())


@contextmanager
def watched(show: bool) -> Iterator[Watch]:
    """Show how far the run is that tells what it gives while the block runs.

    Parameters
    ----------
    show
        Whether to show it; never where the log tells no more than warnings.
    """
    watch, console = Watch(), terminal()
    if not show or is_quiet():
        yield watch
        return
    with _lines(watch) if console is None else live(watch.render, console):
        yield watch


@contextmanager
def _lines(watch: Watch) -> Iterator[None]:
    """Log a line every so often, whether anything came meanwhile or not, and one in the end."""
    try:
        with repeated(lambda: log.info("%s", watch.line()), LOG_EVERY_S):
            yield
    finally:
        if watch.tally is not None:
            log.info("%s", watch.line())


def track_json(
    entries: Iterable[LedgerEntry], total: int, show: bool, before: int = 0
) -> Iterator[LedgerEntry]:
    """Pass on the `entries` of a run and say of each, in a line of JSON, what became of the cell.

    The lines are on standard error; the other parameters are those of `Watch.track`.
    """
    for n, entry in enumerate(entries, start=before + 1):
        if show:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = {"time": now, **asdict(entry), "n": n, "of": total}
            print(json.dumps(line), file=sys.stderr, flush=True)
        yield entry


def _tell(entry: LedgerEntry) -> None:
    """Say what became of a cell, where the log tells everything."""
    came = amount(entry.sources, "source") if entry.done else entry.reason
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
        if self.cells == self.before:
            return "the first cell is on its way"
        rate = self.sources / max(time.monotonic() - self.start, 1e-3)
        return f"{amount(self.sources, 'source')}, {rate:.1f}/s, {self.failed} failed"

    def left(self) -> str:
        """Say how much time is left if the cells to come take as long as those that came."""
        if self.cells == self.before:
            return ""
        elapsed = time.monotonic() - self.start
        seconds = elapsed / (self.cells - self.before) * (self.total - self.cells)
        return f"{duration(seconds)} left"
