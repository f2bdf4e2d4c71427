"""What libraries written in C++ say on stderr, of which some lines are nobody's business."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2
WAIT_S = 1.0
"""For the last lines, at the end."""


@contextmanager
def without_lines(pattern: re.Pattern[bytes]) -> Iterator[None]:
    """Leave out lines of this process's stderr, file descriptor 2, in which `pattern` is found.

    `sys.stderr` itself goes on to where it went, so that what asks it for a terminal finds one.
    A notebook shows that file below its cells. Nothing is done where `sys.stderr` is another one
    otherwise, as under pytest.
    """
    plain = _is_plain()
    if not plain and "ipykernel" not in sys.modules:
        yield
        return
    target = os.dup(STDERR)
    reading, writing = os.pipe()
    os.dup2(writing, STDERR)
    os.close(writing)
    thread = threading.Thread(target=_pass_on, args=(reading, target, pattern), daemon=True)
    thread.start()
    python = sys.stderr
    if plain:
        sys.stderr = open(target, "w", buffering=1, closefd=False)  # noqa: SIM115
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = python
        python.flush()
        os.dup2(target, STDERR)
        # A child that was started meanwhile may keep the pipe open.
        thread.join(WAIT_S)
        if not thread.is_alive():
            os.close(target)


def _is_plain() -> bool:
    try:
        return sys.stderr.fileno() == STDERR
    except (AttributeError, OSError, ValueError):
        return False


def _pass_on(reading: int, target: int, pattern: re.Pattern[bytes]) -> None:
    with open(reading, "rb") as lines:
        for line in lines:
            if not pattern.search(line):
                os.write(target, line)
