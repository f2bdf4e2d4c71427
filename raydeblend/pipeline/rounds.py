"""Cells by their numbers in, ledger entries out: the graph of `graph`, as often as it takes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import chain

import numpy as np
import ray
from numpy.typing import NDArray
from ray.data.exceptions import ExecutionTimeoutError

from raydeblend.config import CatalogConfig
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.execution import THIS_MACHINE, Execution
from raydeblend.pipeline.graph import Row, finish, run_once
from raydeblend.pipeline.ledger import Run
from raydeblend.pipeline.outcome import fail_cell, give_up
from raydeblend.pipeline.plan import Plan
from raydeblend.pipeline.stages import Stages, compile_ahead, stages_of
from raydeblend.pipeline.time_limit import TimeLimit, limited, take_notes

TRIES = 4
"""How often a cell is begun before the deaths of its workers are taken for its own fault."""

# Cells that are with Ray Data at a time: it keeps some 10 kB of each block in the driver.
CELLS_PER_WAVE = 20_000
# The driver needs 13 ms for a block, a cell of 1024 x 1024 pixels 24 s of a CPU: above some 1,800
# CPUs a block must hold more (`benchmarks/survey`).
CPUS_PER_CELL_IN_BLOCK = 1000

Indices = NDArray[np.int64]
Numbered = tuple[int, LedgerEntry]

log = logging.getLogger(__name__)


def process(
    plan: Plan,
    todo: Indices,
    out: str,
    config: CatalogConfig,
    run: Run,
    execution: Execution = THIS_MACHINE,
    stages: Stages | None = None,
    proof: str = "",
) -> Iterator[LedgerEntry]:
    """Do cells, by their numbers, on Ray and yield the ledger entry of each as it is written.

    Parameters
    ----------
    execution
        GPUs that it leaves open are none.

    Raises
    ------
    ConfigError
        As soon as a worker is on a machine that does not see `proof`, a file of
        `raydeblend.session.shared_folder`.
    """
    if stages is None:
        compile_ahead(config, execution.gpus or 0)
    stages = limited(stages or stages_of(config), TimeLimit(execution.cell_timeout, out))
    cells_per_block = execution.cells_per_block or _cells_per_block()
    hashes: Row = {"weights_hash": run.weights[config.deblender], "config_hash": run.config_hash}
    conclude = partial(finish, measure=stages.measure, out=out, proof=proof, **hashes)
    overtime = partial(_overtime, plan, out, hashes)
    # Of a run whose driver died.
    overtime(())
    shared = ray.put(plan)
    for start in range(0, len(todo), CELLS_PER_WAVE):
        left = set(todo[start : start + CELLS_PER_WAVE].tolist())
        send = partial(run_once, shared, stages, conclude, execution)
        reason = f"its worker died {TRIES} times"
        try:
            yield from _rounds(left, cells_per_block, send, overtime)
        except ExecutionTimeoutError:
            reason = f"nothing moved for {execution.patience:g} seconds"
        for i in sorted(left):
            yield give_up(plan.task(i), out, reason, **hashes)


def _rounds(
    left: set[int],
    cells_per_block: int,
    send: Callable[[Sequence[int], int], Iterator[Numbered]],
    overtime: Callable[[Collection[int]], Sequence[Numbered]],
) -> Iterator[LedgerEntry]:
    """Send cells through the graph until none is left, `TRIES` times; takes them out of `left`."""
    for n in range(1, TRIES + 1):
        # Later rounds keep cells apart and turn the order around, so that a poisonous cell does
        # not take the same others with it each time: in its block, or next for its actor.
        cells = sorted(left, reverse=n % 2 == 0)
        came = send(cells, cells_per_block if n == 1 else 1)
        for i, entry in chain(came, _later(overtime, left)):
            left.remove(i)
            yield entry
        if not left:
            return
        log.warning("%d cells were lost with their workers (try %d of %d)", len(left), n, TRIES)


def _later(
    overtime: Callable[[Collection[int]], Sequence[Numbered]], left: Collection[int]
) -> Iterator[Numbered]:
    """Yield what `overtime` tells, once this is asked for, of the cells that are left by then."""
    yield from overtime(left) if left else ()


def _overtime(plan: Plan, out: str, hashes: Row, left: Collection[int]) -> list[Numbered]:
    """Fail those cells that were ended together with their process, since they took too long."""
    notes = take_notes(out, [(i, plan.task(i)) for i in sorted(left)])
    return [(i, fail_cell(task, out, reason, **hashes)) for i, task, reason in notes]


def _cells_per_block() -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)) // CPUS_PER_CELL_IN_BLOCK)
