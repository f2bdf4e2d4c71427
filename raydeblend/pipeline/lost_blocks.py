"""Blocks that Ray Data leaves out of a run, and whether it was a worker's death."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from raydeblend.pipeline.ray_internals import BLOCK_LOG

DEATHS = (WorkerCrashedError, RayActorError, NodeDiedError, OutOfMemoryError, ObjectLostError)

ACTOR_STARTS = 8
"""How often in a row an actor may die as it starts: on a node whose disk is full all do, and Ray
Data would end the run at the first.  A deblender that cannot be loaded ends it after as many."""


def tolerate_lost_blocks(graph: ray.data.Dataset) -> None:
    """Leave out of a graph the blocks that lost their worker, instead of ending the run."""
    graph.context.max_errored_blocks = -1
    graph.context.max_consecutive_actor_init_deaths = ACTOR_STARTS


class BlockErrorListener(logging.Filter):
    """Listens to why blocks are left out, and keeps the tracebacks off the terminal.

    Attributes
    ----------
    fault
        An error that is no death, such as a package that the workers lack; it must end the run.
    """

    fault: BaseException | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        """Note the error of a record; nothing is printed."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, RayTaskError) and not _is_death(error):
            self.fault = error
        return False


def _is_death(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, DEATHS):
        error = getattr(error, "cause", None) or error.__cause__
    return error is not None


@contextmanager
def lost_block_errors() -> Iterator[BlockErrorListener]:
    """Listen while a dataset runs."""
    listener = BlockErrorListener()
    BLOCK_LOG.addFilter(listener)
    try:
        yield listener
    finally:
        BLOCK_LOG.removeFilter(listener)
