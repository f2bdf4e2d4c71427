"""A limit to the time that a stage may take on a cell, which ends also what never returns.

Three things, each for what the one before cannot end:

1. An exception in the thread that is at work: it ends Python code, such as an endless loop.
2. The end of the process, after a note in the output by which the driver knows that it was this and
   no death: compiled code that lets other threads run, and reads that never return.
3. The same by a thread of the interpreter's own, which can leave no note: compiled code that keeps
   all others waiting.  The driver takes it for a death and tries the cell again, as often as ever.

A limit is no part of a run's configuration: it does not change what a cell gives.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from raydeblend import storage
from raydeblend.errors import TileError
from raydeblend.pipeline.entries import entry_path
from raydeblend.pipeline.plan import CellTask
from raydeblend.pipeline.stages import Stages

STAGE_S = 7200.0
"""A cell of 1024 pixels takes half a minute, the most crowded one known some minutes."""
GRACE_S = 10.0
"""For a stage to stop on request, and again for the note."""
NOTE = ".overtime"
STDERR = 2


@dataclass(frozen=True)
class TimeLimit:
    """How long a stage may take on a cell, in seconds, and the output that a note goes to."""

    seconds: float
    out: str
    grace: float = GRACE_S

    def reason(self, stage: str) -> str:
        """Say why a cell failed."""
        return f"{stage}: took longer than {self.seconds:g} seconds"


class OvertimeError(BaseException):
    """Raised in the thread at work; no `except Exception` of a plug-in keeps it."""


@dataclass(frozen=True)
class LimitedStage:
    """A stage that ends in time, with a `TileError` or with its process."""

    stage: Callable[[Any], object]
    name: str
    limit: TimeLimit

    def __call__(self, content: Any) -> Any:
        """Run the stage.

        Raises
        ------
        TileError
            If it took too long and could be stopped.
        """
        watch = _Watch(self.limit, partial(_leave_note, self.limit, self.name, content))
        try:
            try:
                return self.stage(content)
            finally:
                watch.close()
        except OvertimeError:
            watch.close()
            raise TileError(f"took longer than {self.limit.seconds:g} seconds") from None


class _Watch:
    """A thread that interrupts this one, and then ends the process."""

    def __init__(self, limit: TimeLimit, note: Callable[[], None]) -> None:
        self.limit, self.note = limit, note
        self.worker, self.over = threading.get_ident(), threading.Event()
        self.lock = threading.Lock()
        faulthandler.dump_traceback_later(limit.seconds + 2 * limit.grace, exit=True, file=STDERR)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        if self.over.wait(self.limit.seconds):
            return
        with self.lock:
            if not self.over.is_set():
                _raise_in(self.worker, OvertimeError)
        if not self.over.wait(self.limit.grace):
            self.note()
            os._exit(1)

    def close(self) -> None:
        """Let the stage be; no exception comes after this."""
        with self.lock:
            self.over.set()
        _raise_in(self.worker, None)
        faulthandler.cancel_dump_traceback_later()


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise an error in a thread as soon as it runs Python code; None takes one back."""
    what = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)


def limited(stages: Stages, limit: TimeLimit) -> Stages:
    """Return the stages with a limit on each."""
    return Stages(
        LimitedStage(stages.detect, "detect", limit),
        partial(_limited_deblender, stages.deblend, limit),
        LimitedStage(stages.measure, "measure", limit),
    )


def _limited_deblender(make: Callable[[], Callable[[Any], object]], limit: TimeLimit) -> Any:
    return LimitedStage(make(), "deblend", limit)


def _leave_note(limit: TimeLimit, stage: str, content: Any) -> None:
    path = _note_path(limit.out, _task_of(content))
    storage.write_bytes(path, limit.reason(stage).encode())


def _task_of(content: Any) -> CellTask:
    """Return the cell that a stage is given, alone or with what was found in it."""
    content = getattr(content, "detected", content)
    task: CellTask = getattr(content, "task", content)
    return task


def _note_path(out: str, task: CellTask) -> str:
    return entry_path(out, task.cell.tile.name, task.cell.name) + NOTE


def take_notes(
    out: str, tasks: Collection[tuple[int, CellTask]] = ()
) -> Iterator[tuple[int, CellTask, str]]:
    """Yield those of the cells that were ended with their process, and the reason.

    All notes are removed from the output.
    """
    paths = storage.list_files(storage.join(out, "ledger"), NOTE)
    there = {storage.absolute(path) for path in paths}
    for i, task in tasks:
        path = storage.absolute(_note_path(out, task))
        if path in there:
            yield i, task, storage.read_bytes(path).decode()
    storage.remove_files(paths)
