"""Tests wait for events, never for a time."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def wait_for(condition: Callable[[], T], seconds: float, log: Path | None = None) -> T:
    """Return what `condition` gives as soon as that is true.

    Raises
    ------
    TimeoutError
        With what a run wrote to its `log`, if it is not after so many seconds.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    said = "" if log is None else f": {log.read_text()}"
    raise TimeoutError(f"nothing came in {seconds} s{said}")
