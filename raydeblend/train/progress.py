"""How far a run is: workers may be anywhere, so its history file is what the driver looks at."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from raydeblend import storage
from raydeblend.train.state import Scalars

HISTORY = "history.json"
POLL_S = 1.0

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


@contextmanager
def follow(path: str, epochs: int) -> Iterator[None]:
    """Log a line for each epoch that is added to the history at `path` while the block runs."""
    finished = threading.Event()
    done = len(read_history(path))
    thread = threading.Thread(target=_poll, args=(path, epochs, done, finished), daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def _poll(path: str, epochs: int, done: int, finished: threading.Event) -> None:
    last = False
    while not last:
        # One more look after the end.
        last = finished.wait(POLL_S)
        history = read_history(path)
        for epoch in range(done, len(history)):
            log.info("epoch %d of %d: %s", epoch + 1, epochs, _say(history[epoch]))
        done = max(done, len(history))


def _say(scores: Scalars) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in scores.items())
