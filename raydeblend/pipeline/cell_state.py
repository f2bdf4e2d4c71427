"""A cell on its way, and how one stage is run on it.

A `CellState` goes from stage to stage.  `run_stage` runs one stage on it, keeps the time and turns
what can be wrong with a cell into a failed one, which the later stages only pass on.
"""

from __future__ import annotations

import resource
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from raydeblend import storage
from raydeblend.errors import TileError
from raydeblend.pipeline.plan import CellTask
from raydeblend.traffic import PIXELS_READ

# What bad pixels, files, disks and memory can raise.  Anything else is a mistake in the code
# and should end the run.
CELL_ERRORS = (
    TileError,
    ValueError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    *storage.READ_ERRORS,
)


@dataclass(frozen=True)
class CellState:
    """A cell on its way through the stages.

    Attributes
    ----------
    task
        The cell.
    content
        What the last stage returned; None before the first and after a failure.
    error
        Why the cell failed, or empty.
    seconds
        Wall time by stage.
    peak_memory_mb
        Largest resident memory of the processes so far, in MiB.
    bytes_read
        Of pixels, see `raydeblend.traffic`.
    """

    task: CellTask
    content: Any = None
    error: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mb: float = 0.0
    bytes_read: int = 0


def run_stage_safely(work: CellState, name: str, stage: Callable[[Any], object]) -> CellState:
    """Run one stage as `run_stage` does; a mistake in the code too fails only the cell.

    In a run of days one cell in which an index is out of range must not end it, nor be taken for
    one whose worker died.
    """
    try:
        return run_stage(work, name, stage)
    except Exception as mistake:  # noqa: BLE001  whatever it is, it is told with its place
        place = traceback.extract_tb(mistake.__traceback__)[-1]
        where = f"{place.filename.rpartition('/')[2]}:{place.lineno}"
        said = f"{type(mistake).__name__} at {where}: {storage.explain(mistake)}"
        return replace(work, content=None, error=f"{name}: mistake in the code, {said}")


def run_stage(work: CellState, name: str, stage: Callable[[Any], object]) -> CellState:
    """Run one stage on the content of `work` (the first on its task) and note what it cost."""
    if work.error:
        return work
    content: object = None
    start, error = time.perf_counter(), ""
    read_before = PIXELS_READ.n_bytes
    try:
        content = stage(work.task if work.content is None else work.content)
    except CELL_ERRORS as problem:
        error = f"{name}: {storage.explain(problem)}"
    seconds = {**work.seconds, name: time.perf_counter() - start}
    peak = max(work.peak_memory_mb, _peak_memory_mb())
    read = work.bytes_read + PIXELS_READ.n_bytes - read_before
    return replace(
        work,
        content=content,
        error=error,
        seconds=seconds,
        peak_memory_mb=peak,
        bytes_read=read,
    )


def _peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
