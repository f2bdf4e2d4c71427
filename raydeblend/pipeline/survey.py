"""A survey's tiles in, a deblended catalog out: the whole Ray Data graph.

    plan ──► detect ──► deblend ──► measure ──► write ──► ledger entries, to the driver
    cells    tasks      actors      tasks       tasks

One row is one cell, on its way as a pickled `stages.Work`: stamps, never tiles, leave `detect`.
A stage is a plain callable of `stages`; a cell that fails is a row too, so that the run goes on.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import ray
from ray.data import ActorPoolStrategy, ExecutionResources

from raydeblend import storage
from raydeblend.config import CatalogConfig
from raydeblend.fits import find_tiles
from raydeblend.pipeline.ledger import LedgerEntry, Run, open_output
from raydeblend.pipeline.plan import CellTask, plan_tasks
from raydeblend.pipeline.progress import track
from raydeblend.pipeline.run import RunSummary, describe, fail_tile, summarise
from raydeblend.pipeline.stages import (
    DeblendCell,
    Work,
    advance,
    choose_photometry,
    detect_cell,
    measure_cell,
    write_cell,
)
from raydeblend.session import ray_session

# A task and an actor fit on one CPU together, so that no machine is too small to go on; and
# they ask for different shares, since Ray would fuse stages that ask for equal ones.
TASK_CPUS = 0.9
ACTOR_CPUS = 0.1
# Ray Data would fill half of the object store with stamps that wait.
STORE_SHARE = 0.25

Row = dict[str, Any]


def run_catalog(
    input: str,
    out: str,
    config: CatalogConfig,
    resume: bool = False,
    overwrite: bool = False,
    address: str | None = None,
    progress: bool = True,
) -> RunSummary:
    """Make the catalog of the tiles in `input`.

    Parameters
    ----------
    input, out
        Directories, local or ``s3://bucket/prefix``.
    resume, overwrite
        What to do where `out` holds a run already: do only what its ledger lacks, or replace it.
    address
        A Ray cluster; by default ``RAY_ADDRESS``, else this machine.
    progress
        Whether to show how far the run is.

    Raises
    ------
    ConfigError
        Before any work, if the input, the output or the configuration cannot be used.
    """
    start = time.monotonic()
    config = replace(config, photometry=choose_photometry(config))
    headers, unusable = find_tiles(
        input,
        config.bands,
        config.image_pattern,
        config.psf_pattern,
        manifest=config.manifest,
        zeropoint=config.zeropoint,
    )
    tasks = plan_tasks(headers, config.cell_size, config.border)
    storage.check_writable(out)
    run = describe(input, config, tasks)
    entries = open_output(out, run, resume, overwrite)
    entries += [fail_tile(out, tile) for tile in unusable]
    done = {entry.key for entry in entries}
    tasks = [task for task in tasks if (task.cell.tile.name, task.cell.name) not in done]
    if tasks:
        with ray_session(address):
            entries += track(process(tasks, out, config, run), len(tasks), progress)
    return summarise(entries, out, time.monotonic() - start)


def process(
    tasks: Sequence[CellTask], out: str, config: CatalogConfig, run: Run
) -> Iterator[LedgerEntry]:
    """Do the cells on Ray and yield the ledger entry of each as it is written."""
    items = [{"work": pickle.dumps(Work(task))} for task in tasks]
    cells = ray.data.from_items(items, override_num_blocks=len(items))
    detect = partial(step, name="detect", stage=partial(detect_cell, config=config))
    measure = partial(step, name="measure", stage=partial(measure_cell, config=config))
    write = partial(
        finish, out=out, weights_hash=run.weights[config.deblender], config_hash=run.config_hash
    )
    graph = (
        cells.map(detect, num_cpus=TASK_CPUS)
        .map(DeblendActor, fn_constructor_args=(config,), compute=_pool(), **_actor_share())
        .map(measure, num_cpus=TASK_CPUS)
        .map(write, num_cpus=TASK_CPUS)
    )
    _limit_store(graph)
    for row in graph.iter_rows():
        yield pickle.loads(row["entry"])


def step(row: Row, name: str, stage: Callable[[Any], object]) -> Row:
    """Run one stage on the cell of a row."""
    return {"work": pickle.dumps(advance(pickle.loads(row["work"]), name, stage))}


def finish(row: Row, out: str, weights_hash: str, config_hash: str) -> Row:
    """Write the cell of a row; what comes back is its ledger entry."""
    return {
        "entry": pickle.dumps(write_cell(pickle.loads(row["work"]), out, weights_hash, config_hash))
    }


class DeblendActor:
    """The deblending stage as an actor, which holds the network."""

    def __init__(self, config: CatalogConfig) -> None:
        self.stage = DeblendCell(config)

    def __call__(self, row: Row) -> Row:
        """Deblend the cell of a row."""
        return step(row, "deblend", self.stage)


def _pool() -> ActorPoolStrategy:
    resources = ray.cluster_resources()
    size = int(resources.get("GPU", 0)) or max(1, int(resources.get("CPU", 1)) // 2)
    return ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1)


def _actor_share() -> dict[str, float]:
    gpus = 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0
    return {"num_cpus": ACTOR_CPUS, "num_gpus": gpus}


def _limit_store(graph: ray.data.Dataset) -> None:
    store = ray.cluster_resources().get("object_store_memory", 0)
    limits = ExecutionResources.for_limits(object_store_memory=STORE_SHARE * store)
    graph.context.execution_options.resource_limits = limits
    graph.context.enable_progress_bars = False
