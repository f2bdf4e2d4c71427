"""How far a run is: workers may be anywhere, so its files are what the driver looks at."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from raydeblend import storage
from raydeblend.terminal import bar, duration, is_quiet, live, terminal
from raydeblend.train.state import Scalars

HISTORY = "history.json"
PROGRESS = "progress.json"
POLL_S = 1.0
LOG_EVERY_S = 60.0

log = logging.getLogger(__name__)


def write_history(path: str, history: list[Scalars]) -> None:
    """Write the scores of all epochs done, as JSON."""
    storage.write_bytes(path, json.dumps(history, indent=1).encode())


def read_history(path: str) -> list[Scalars]:
    """Return the scores of the epochs done; none where there is no file, or a damaged one.

    It is only shown: what a run goes on from are its checkpoints, which hold the same.
    """
    if not storage.exists(path):
        return []
    try:
        history: list[Scalars] = json.loads(storage.read_bytes(path))
    except ValueError:
        return []
    return history


@dataclass(frozen=True)
class Progress:
    """How far the first worker is: epochs done, steps done of the next one, the last loss."""

    epoch: int
    steps: int
    loss: float | None = None


class ProgressNote:
    """Leaves word of how far the run in `out` is, for the driver; not more often than it looks."""

    def __init__(self, out: str) -> None:
        self.loss: float | None = None
        self._path = storage.join(out, PROGRESS)
        self._every = _seconds_between_looks(out)
        self._written = -self._every

    def write(self, epoch: int, steps: int) -> None:
        """Write it, if the last time is long enough ago."""
        if time.monotonic() - self._written < self._every:
            return
        note = asdict(Progress(epoch, steps, self.loss))
        storage.write_bytes(self._path, json.dumps(note).encode())
        self._written = time.monotonic()


def _seconds_between_looks(out: str) -> float:
    """Return how often a run's files are written and looked at."""
    # Requests each second for hours cost money.
    return POLL_S if storage.is_local(out) else 10 * POLL_S


def read_progress(out: str) -> Progress | None:
    """Return how far the run in `out` was when its first worker last wrote of it."""
    path = storage.join(out, PROGRESS)
    try:
        return Progress(**json.loads(storage.read_bytes(path))) if storage.exists(path) else None
    except (ValueError, TypeError):
        return None


class Watch:
    """The progress of a training run as it is shown."""

    def __init__(self, out: str, epochs: int, steps: int) -> None:
        self._out, self._epochs, self._steps = out, epochs, steps
        self._before, self._now = read_progress(out), Progress(len(self._history()), 0)
        self._first: tuple[float, int] | None = None
        self._start = time.monotonic()

    def _history(self) -> list[Scalars]:
        return read_history(storage.join(self._out, HISTORY))

    def look(self) -> None:
        """Look how far it is; say of each epoch that has ended how it went."""
        history = self._history()
        for epoch in range(self._now.epoch, len(history)):
            log.info("epoch %d of %d: %s", epoch + 1, self._epochs, _say(history[epoch]))
        note = read_progress(self._out)
        if note is None or note == self._before or note.epoch < len(history):
            note = Progress(max(self._now.epoch, len(history)), 0, self._now.loss)
        if self._first is None and note.steps:
            self._first = time.monotonic(), self._done(note)
        self._now = note

    def _done(self, now: Progress) -> int:
        return now.epoch * self._steps + now.steps

    def where(self) -> str:
        """Say in which epoch and step it is, and the loss."""
        now = self._now
        loss = "" if now.loss is None else f", loss {now.loss:.4g}"
        epoch = min(now.epoch + 1, self._epochs)
        return f"epoch {epoch} of {self._epochs}, step {now.steps} of {self._steps}{loss}"

    def left(self) -> str:
        """Say how fast it is and how long it takes, if steps to come take as long as those seen."""
        if self._first is None:
            return "starting the workers"
        since, first = self._first
        done = self._done(self._now)
        rate = (done - first) / max(time.monotonic() - since, 1e-3)
        if not rate:
            return ""
        seconds = (self._steps * self._epochs - done) / rate
        return f"{rate:.3g} steps/s, {duration(seconds)} left"

    def render(self) -> RenderableType:
        """Draw a bar, and below it the loss."""
        elapsed = duration(time.monotonic() - self._start)
        total, done = self._steps * self._epochs, self._done(self._now)
        started = self._first is not None
        return Group(
            bar(done if started else None, total, elapsed, self.left()), Text(self.where())
        )


@contextmanager
def follow(out: str, epochs: int, steps: int) -> Iterator[None]:
    """Show how far the run in `out` is while the block runs: a bar on a terminal, else log lines.

    Where the log tells no more than warnings, nothing is shown.
    """
    watch, finished = Watch(out, epochs, steps), threading.Event()
    console = None if is_quiet() else terminal()
    options = (finished, _seconds_between_looks(out), console is None)
    thread = threading.Thread(target=_poll, args=(watch, *options), daemon=True)
    with nullcontext() if console is None else live(watch.render, console):
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join()


def _poll(watch: Watch, finished: threading.Event, every: float, lines: bool) -> None:
    last, said = False, time.monotonic()
    while not last:
        # One more look after the end.
        last = finished.wait(every)
        watch.look()
        if lines and not last and time.monotonic() - said > LOG_EVERY_S:
            log.info("%s; %s", watch.where(), watch.left())
            said = time.monotonic()


def _say(scores: Scalars) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
