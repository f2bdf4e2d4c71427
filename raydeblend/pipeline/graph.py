"""The Ray Data graph that cells go through once.

    plan ──► detect ──► deblend ──► measure, write ──► ledger entries, to the driver
    cells    tasks      actors      tasks

One row is one cell, as a pickled `cell_state.CellState`: stamps, never tiles, leave `detect`.
A stage is a plain callable of `stages`; a cell that fails is a row too: the run goes on.  One
that was with a process that died does not come back; `rounds` sends it again.

Back-pressure is set, not left to chance: a block is one cell (more on clusters of thousands of
CPUs), an actor gets its next cell when it has finished one, and so many cells are on their way
(`pipeline.backpressure`), however many the survey has.  Weights are files of some MB that each
actor maps from disk: the page cache holds them once per node, no pickle of a network goes through
the object store.  Cells are not batched together for the network: one holds more than a batch.
"""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import ray
from ray.data import ActorPoolStrategy
from ray.util.annotations import RayDeprecationWarning

from raydeblend.errors import ConfigError
from raydeblend.pipeline.backpressure import set_limits
from raydeblend.pipeline.cell_memory import GIB, n_places
from raydeblend.pipeline.cell_state import CellState, run_stage_safely
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.execution import Execution
from raydeblend.pipeline.lost_blocks import lost_block_errors, tolerate_lost_blocks
from raydeblend.pipeline.outcome import write_cell
from raydeblend.pipeline.stages import Stages
from raydeblend.pipeline.under_way import count_blocks
from raydeblend.session import unseen_by_this_node

WITHOUT_END = -1.0
"""Ray Data's word for it; by default it ends a run after half an hour without progress, of which
waiting for the first worker is a part."""

# A task and ten actors fit on one CPU together, so that no machine is too small to go on, nor one
# that the actors of lost machines have come to; and they ask for different shares, since Ray would
# fuse stages that ask for equal ones.
TASK_CPUS = 0.9
ACTOR_CPUS = 0.01

Row = dict[str, Any]


def run_once(
    plan: ray.ObjectRef,
    stages: Stages,
    conclude: Callable[[Row], Row],
    execution: Execution,
    left: Sequence[int],
    cells_per_block: int,
) -> Iterator[tuple[int, LedgerEntry]]:
    """Send cells through the graph once; those that lose their worker do not come back."""
    blocks = -(-len(left) // cells_per_block)
    cells = ray.data.from_items([{"cell": i} for i in left], override_num_blocks=blocks)
    detect = partial(begin, plan=plan, stage=stages.detect)
    memory = execution.memory_per_cell
    with warnings.catch_warnings():
        # `ray_remote_args_fn` goes with Ray 2.64, which pyproject.toml does not admit.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        tasks, actors = _tasks(memory), _actors(execution.gpus or 0, blocks, memory)
        graph = _graph(cells, detect, stages.deblend, conclude, tasks, actors)
    graph.context.enable_progress_bars = False
    tolerate_lost_blocks(graph)
    set_limits(graph)
    count_blocks(graph)
    graph.context.execution_no_progress_timeout_s = execution.patience or WITHOUT_END
    with lost_block_errors() as errors:
        for row in graph.iter_rows():
            if row["stop"]:
                raise ConfigError(row["stop"])
            yield row["cell"], pickle.loads(row["entry"])
    if errors.fault:
        raise errors.fault


def _graph(
    cells: ray.data.Dataset,
    detect: Callable[[Row], Row],
    deblend: Callable[[], Callable[[Any], object]],
    conclude: Callable[[Row], Row],
    tasks: Row,
    actors: Row,
) -> ray.data.Dataset:
    """Return the graph of the stages."""
    return (
        cells.map(detect, ray_remote_args_fn=_tried_once, **tasks)
        .map(
            DeblendActor,
            fn_constructor_args=(deblend,),
            ray_remote_args_fn=_started_again,
            **actors,
        )
        .map(conclude, ray_remote_args_fn=_tried_once, **tasks)
    )


def begin(row: Row, plan: ray.ObjectRef, stage: Callable[[Any], object]) -> Row:
    """Run the first stage on the cell with the number of a row."""
    # Of the plan in the object store nothing is copied but what is asked for.
    work = CellState(ray.get(plan).task(row["cell"]))
    return {**row, "work": pickle.dumps(run_stage_safely(work, "detect", stage))}


def step(row: Row, name: str, stage: Callable[[Any], object]) -> Row:
    """Run one stage on the cell of a row."""
    return {**row, "work": pickle.dumps(run_stage_safely(pickle.loads(row["work"]), name, stage))}


def finish(
    row: Row,
    measure: Callable[[Any], object],
    out: str,
    weights_hash: str,
    config_hash: str,
    proof: str = "",
) -> Row:
    """Measure and write the cell of a row; what comes back is its ledger entry.

    Nothing is written by a machine that does not see `proof`; then ``stop`` says so.
    """
    stop = unseen_by_this_node(proof, out)
    if stop:
        return {"cell": row["cell"], "entry": b"", "stop": stop}
    work = run_stage_safely(pickle.loads(row["work"]), "measure", measure)
    entry = write_cell(work, out, weights_hash, config_hash)
    return {"cell": row["cell"], "entry": pickle.dumps(entry), "stop": ""}


class DeblendActor:
    """The deblending stage as an actor, which holds the network."""

    def __init__(self, make: Callable[[], Callable[[Any], object]]) -> None:
        self.stage = make()

    def __call__(self, row: Row) -> Row:
        """Deblend the cell of a row."""
        return step(row, "deblend", self.stage)


def _tasks(memory: float | None) -> Row:
    """Return what Ray Data must know of the tasks; `memory` is what each wants, in GiB."""
    # Where there is room for a single process the actor takes it, and tasks would wait forever.
    wants = 0.0 if memory is None or n_places(memory) < 2 else memory * GIB
    return {"num_cpus": TASK_CPUS} | ({"memory": wants} if wants else {})


def _actors(gpus: int, most: int, memory: float | None = None) -> Row:
    """Return what Ray Data must know of the actors that deblend: one for each GPU."""
    # Without a GPU deblending is nine tenths of the work (`benchmarks/survey`): an actor per CPU.
    size = gpus or max(1, int(ray.cluster_resources().get("CPU", 1)))
    wants: Row = {}
    if memory is not None:
        # Half of the room, since actors keep what they ask for and the tasks need some too.
        most, wants = min(most, max(1, n_places(memory) // 2)), {"memory": memory * GIB}
    pool = ActorPoolStrategy(size=min(size, most), max_tasks_in_flight_per_actor=1)
    return {"compute": pool, "num_cpus": ACTOR_CPUS, "num_gpus": float(gpus > 0), **wants}


def _tried_once() -> dict[str, int]:
    return {"max_retries": 0}


def _started_again() -> dict[str, int]:
    # An actor starts again as often as it dies; the cell that it had is not given to it again.
    return {"max_restarts": -1, "max_task_retries": 0}
