"""A survey's tiles in, a deblended catalog out: the whole Ray Data graph.

    plan ──► detect ──► deblend ──► measure, write ──► ledger entries, to the driver
    cells    tasks      actors      tasks

One row is one cell, as a pickled `stages.CellState`: stamps, never tiles, leave `detect`.
A stage is a plain callable of `stages`; a cell that fails is a row too: the run goes on.

What survives which death
-------------------------
- **A worker or an actor**: Ray tries nothing again; a cell that was with a process that died
  just does not come back.  When all others have, the driver sends what is missing through the
  graph again, in all `TRIES` times: a *round* is a run over what the ledger lacks.  A cell that
  is missing after the last round is failed: "its worker died 4 times".  Ray's own retries
  would do a poisonous cell without end.  Three deaths cost no cell, since each costs one try.
- **A node**: the same for all the cells that were on it; nothing is rebuilt from lineage, since
  a cell on its way is only some seconds of work.  Actors start again on the nodes left.
- **The driver**: every finished cell is in the ledger, and ``--resume`` does the others.  Orphaned
  workers may outlive it by seconds; all write the same bytes, whole or not at all.
- **A folder that the nodes do not share**: the driver leaves a file in the output that every node
  must see, before the run and before each shard is written; at the end it looks for all shards.
- **The s3 server**: `storage` asks again for a minute; then the cell is failed.

An error that is no death, such as a package that the workers lack, ends the run.  A stage's own
mistake on one cell fails that cell (`stages.run_stage_safely`).

Back-pressure is set, not left to chance: a block is one cell (more on clusters of thousands of
CPUs), an actor gets its next cell when it has finished one, and so many cells are on their way
(`pipeline.pressure`), however many the survey has.  Weights are files of some MB that each actor
maps from disk: the page cache holds them once per node, no pickle of a network goes through the
object store.  Cells are not batched together for the network: one holds more than a batch.
"""

from __future__ import annotations

import logging
import pickle
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.data import ActorPoolStrategy
from ray.data.exceptions import ExecutionTimeoutError
from ray.util.annotations import RayDeprecationWarning

from raydeblend import storage
from raydeblend.config import CatalogConfig
from raydeblend.errors import ConfigError, Stopped
from raydeblend.fits.manifest import to_manifest
from raydeblend.pipeline.backpressure import set_limits
from raydeblend.pipeline.command import resume_command
from raydeblend.pipeline.entries import LedgerCompactor, LedgerEntry, list_ledger, read_loose
from raydeblend.pipeline.inputs import examples, find_survey_tiles, with_layout
from raydeblend.pipeline.ledger import SUMMARY_FILE, Run, begin_output, check_output, manifest_of
from raydeblend.pipeline.lost_blocks import lost_block_errors, tolerate_lost_blocks
from raydeblend.pipeline.metrics import counted
from raydeblend.pipeline.plan import Plan, plan_survey
from raydeblend.pipeline.progress import track
from raydeblend.pipeline.run import describe, fail_tile
from raydeblend.pipeline.seen import cells_left, fail_unseen, with_shards
from raydeblend.pipeline.shards import INJECTED
from raydeblend.pipeline.share import parse_share
from raydeblend.pipeline.stages import (
    CellState,
    Stages,
    choose_photometry,
    compile_ahead,
    give_up,
    run_stage_safely,
    stages_of,
    write_cell,
)
from raydeblend.pipeline.summary import RunSummary, Totals, write_summary
from raydeblend.session import claim_gpus, ray_session, shared_folder, unseen_by_this_node

TRIES = 4
"""How often a cell is begun before the deaths of its workers are taken for its own fault."""
WITHOUT_END = -1.0
"""Ray Data's word for it; by default it ends a run after half an hour without progress, of which
waiting for the first worker is a part."""

# A task and ten actors fit on one CPU together, so that no machine is too small to go on, nor one
# that the actors of lost machines have come to; and they ask for different shares, since Ray would
# fuse stages that ask for equal ones.
TASK_CPUS = 0.9
ACTOR_CPUS = 0.01

# Cells that are with Ray Data at a time: it keeps some 10 kB of each block in the driver.
CELLS_PER_WAVE = 20_000
# The driver needs 13 ms for a block, a cell of 1024 x 1024 pixels 24 s of a CPU: above some 1,800
# CPUs a block must hold more (`benchmarks/survey`).
CPUS_PER_CELL_IN_BLOCK = 1000

Row = dict[str, Any]
Indices = NDArray[np.int64]

log = logging.getLogger(__name__)


def run_catalog(
    input: str,
    out: str,
    config: CatalogConfig,
    resume: bool = False,
    overwrite: bool = False,
    address: str | None = None,
    progress: bool = True,
    stages: Stages | None = None,
    part: str | None = None,
    gpus: int | None = None,
    accept_other_versions: bool = False,
    patience: float | None = None,
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
    stages
        What is done to a cell, if not what `config` says.
    part
        Which tiles to do, such as ``2/4``; what is primary is decided among all.
    gpus
        How many to deblend on, by default all there are.
    accept_other_versions
        Resume a run that other versions of raydeblend or of its packages began.
    patience
        Seconds without any progress, on any machine, after which the cells that are left have
        failed: something hangs, or no worker comes.  None waits without end.

    Raises
    ------
    ConfigError
        Before any work, if the input, the output or the configuration cannot be used.
    """
    start, share = time.monotonic(), parse_share(part)
    input, root = storage.absolute(input), storage.absolute(out)
    config = resolve(config, input, root)
    with ExitStack() as session:
        connect = connect_once(session, address)
        if gpus:
            connect()
            claim_gpus(gpus, address)
        headers, unusable = find_survey_tiles(input, config, connect)
        plan = plan_survey(headers, config.cell_size, config.border).only(share)
        storage.check_writable(root)
        run, tiles = describe(input, config, plan, share), to_manifest(headers)
        done = check_output(root, run, plan, tiles, resume, overwrite, accept_other_versions)
        done = with_shards(root, done)
        todo = cells_left(plan, done)
        log.info(
            "%d tiles in %d cells, of which %s",
            len(plan.tiles),
            len(plan),
            f"{len(todo)} are to do" if len(todo) else "all are done: nothing to do",
        )
        proof = ""
        if len(todo):
            # Before anything is written or replaced: the cluster may not be there, or not see it.
            connect()
            gpus = claim_gpus() if gpus is None else gpus
            proof = session.enter_context(shared_folder(root, examples(headers, config)))
        begin_output(root, run, plan, tiles, overwrite)
        totals = Totals(done)
        totals.add_all(fail_tile(root, tile) for tile in unusable if share.has(tile.name))
        if len(todo):
            how: Row = {"gpus": gpus or 0, "proof": proof, "patience": patience}
            work = process(plan, todo, root, config, run, stages, **how)
            entries = track(counted(work, len(todo)), len(plan), progress, len(plan) - len(todo))
            try:
                totals.add_all(_compact(entries, root))
            except Stopped as stop:
                raise Stopped(stop.number, _how_far(totals, plan, out, run)) from None
    _remove_temporary(root)
    totals = fail_unseen(root, plan, run, totals)
    summary = totals.summarize(out, time.monotonic() - start)
    if len(todo) or unusable or not storage.exists(storage.join(root, SUMMARY_FILE)):
        write_summary(root, summary)
    return summary


def _how_far(totals: Totals, plan: Plan, out: str, run: Run) -> str:
    """Say how many cells a run that was stopped has done, and how to go on with it."""
    done = totals.counts["cells"] - len(totals.failures)
    return f"{done} of {len(plan)} cells done; go on with: {resume_command(out, run)}"


def resolve(config: CatalogConfig, input: str, out: str) -> CatalogConfig:
    """Return the configuration with what it leaves open: places of files, layout, photometry."""
    if config.manifest is not None:
        config = replace(config, manifest=manifest_of(out, config.manifest))
    if config.weights is not None and storage.exists(config.weights):
        config = replace(config, weights=storage.absolute(config.weights))
    config = with_layout(config, input)
    return replace(config, photometry=choose_photometry(config))


def _remove_temporary(out: str) -> None:
    """Remove what killed workers left half written."""
    # Below the output there may be other runs, which are being written.
    storage.remove_temporary(out, deep=False)
    for folder in ("catalog", "ledger", INJECTED):
        storage.remove_temporary(storage.join(out, folder))


def connect_once(session: ExitStack, address: str | None) -> Callable[[], None]:
    """Return what connects to Ray until the end of `session`, if that is not done yet."""

    def connect() -> None:
        session.enter_context(ray_session(address))

    return connect


def _compact(entries: Iterable[LedgerEntry], out: str) -> Iterator[LedgerEntry]:
    """Pass on the entries of a run and keep its ledger short."""
    compactor = LedgerCompactor(
        out, [entry for entry in read_loose(list_ledger(out)) if entry.done]
    )
    for entry in entries:
        compactor.add(entry)
        yield entry
    compactor.close()


def process(
    plan: Plan,
    todo: Indices,
    out: str,
    config: CatalogConfig,
    run: Run,
    stages: Stages | None = None,
    cells_per_block: int | None = None,
    gpus: int = 0,
    proof: str = "",
    patience: float | None = None,
) -> Iterator[LedgerEntry]:
    """Do cells, by their numbers, on Ray and yield the ledger entry of each as it is written.

    Raises
    ------
    ConfigError
        As soon as a worker is on a machine that does not see `proof`, a file of
        `raydeblend.session.shared_folder`.
    """
    if stages is None:
        compile_ahead(config, gpus)
    stages, cells_per_block = stages or stages_of(config), cells_per_block or _cells_per_block()
    hashes: Row = {"weights_hash": run.weights[config.deblender], "config_hash": run.config_hash}
    conclude = partial(finish, measure=stages.measure, out=out, proof=proof, **hashes)
    shared = ray.put(plan)
    for start in range(0, len(todo), CELLS_PER_WAVE):
        left = set(todo[start : start + CELLS_PER_WAVE].tolist())
        send = partial(_round, shared, stages, conclude, gpus, patience)
        reason = f"its worker died {TRIES} times"
        try:
            yield from _rounds(left, cells_per_block, send)
        except ExecutionTimeoutError:
            reason = f"nothing moved for {patience:g} seconds"
        for i in sorted(left):
            yield give_up(plan.task(i), out, reason, **hashes)


def _rounds(
    left: set[int],
    cells_per_block: int,
    send: Callable[[Sequence[int], int], Iterator[tuple[int, LedgerEntry]]],
) -> Iterator[LedgerEntry]:
    """Send cells through the graph until none is left, `TRIES` times; takes them out of `left`."""
    for n in range(1, TRIES + 1):
        # Later rounds keep cells apart and turn the order around, so that a poisonous cell does
        # not take the same others with it each time: in its block, or next for its actor.
        cells = sorted(left, reverse=n % 2 == 0)
        for i, entry in send(cells, cells_per_block if n == 1 else 1):
            left.remove(i)
            yield entry
        if not left:
            return
        log.warning("%d cells were lost with their workers (try %d of %d)", len(left), n, TRIES)


def _round(
    plan: ray.ObjectRef,
    stages: Stages,
    conclude: Callable[[Row], Row],
    gpus: int,
    patience: float | None,
    left: Sequence[int],
    cells_per_block: int,
) -> Iterator[tuple[int, LedgerEntry]]:
    """Send cells through the graph once; those that lose their worker do not come back."""
    blocks = -(-len(left) // cells_per_block)
    cells = ray.data.from_items([{"cell": i} for i in left], override_num_blocks=blocks)
    detect = partial(begin, plan=plan, stage=stages.detect)
    with warnings.catch_warnings():
        # `ray_remote_args_fn` goes with Ray 2.64, which pyproject.toml does not admit.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        graph = _graph(cells, detect, stages.deblend, conclude, _actors(gpus, blocks))
    graph.context.enable_progress_bars = False
    tolerate_lost_blocks(graph)
    set_limits(graph)
    graph.context.execution_no_progress_timeout_s = patience or WITHOUT_END
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
    actors: Row,
) -> ray.data.Dataset:
    """Return the graph of the stages."""
    return (
        cells.map(detect, num_cpus=TASK_CPUS, ray_remote_args_fn=_tried_once)
        .map(
            DeblendActor,
            fn_constructor_args=(deblend,),
            ray_remote_args_fn=_started_again,
            **actors,
        )
        .map(conclude, num_cpus=TASK_CPUS, ray_remote_args_fn=_tried_once)
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


def _cells_per_block() -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)) // CPUS_PER_CELL_IN_BLOCK)


def _actors(gpus: int, most: int) -> Row:
    """Return what Ray Data must know of the actors that deblend: one for each GPU."""
    # Without a GPU deblending is nine tenths of the work (`benchmarks/survey`): an actor per CPU.
    size = gpus or max(1, int(ray.cluster_resources().get("CPU", 1)))
    pool = ActorPoolStrategy(size=min(size, most), max_tasks_in_flight_per_actor=1)
    return {"compute": pool, "num_cpus": ACTOR_CPUS, "num_gpus": float(gpus > 0)}


def _tried_once() -> dict[str, int]:
    return {"max_retries": 0}


def _started_again() -> dict[str, int]:
    # An actor starts again as often as it dies; the cell that it had is not given to it again.
    return {"max_restarts": -1, "max_task_retries": 0}
