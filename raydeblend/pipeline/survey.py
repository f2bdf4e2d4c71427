"""A survey's tiles in, a deblended catalog out: the whole Ray Data graph.

    plan ──► detect ──► deblend ──► measure, write ──► ledger entries, to the driver
    cells    tasks      actors      tasks

`rounds` sends the cells through the graph of `graph`, whose stages are the plain callables of
`stages`; this module begins a run, keeps its ledger and ends it.

What survives which death
-------------------------
- **A worker or an actor**: Ray retries nothing; a cell whose process died does not come back.
  When all others have, the driver sends the missing cells through the graph again, up to `TRIES`
  times in all: a *round* is a run over what the ledger lacks.  A cell that is missing after the
  last round has failed: "its worker died 4 times".  Ray's own retries would repeat a poisonous
  cell forever.  Three deaths cost no cell, since each costs one try.
- **A node**: the same for all the cells that were on it; nothing is rebuilt from lineage, since
  a cell in flight is only some seconds of work.  Actors restart on the remaining nodes.
- **The driver**: every finished cell is in the ledger, and ``--resume`` does the others.  Orphaned
  workers may outlive it by seconds; all write the same bytes, atomically.
- **A folder that the nodes do not share**: the driver writes a file to the output that every node
  must see, before the run and before each shard is written; at the end it checks for all shards.
- **The s3 server**: `storage` retries for a minute; then the cell fails.

An error that is not a death, such as a package that the workers lack, ends the run.  A stage's own
exception on one cell fails that cell (`cell_state.run_stage_safely`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Set
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import numpy as np

from raydeblend import access, storage
from raydeblend.config import CatalogConfig
from raydeblend.errors import Stopped
from raydeblend.pipeline.cell_memory import check_room
from raydeblend.pipeline.command import resume_command
from raydeblend.pipeline.compactor import LedgerCompactor
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.execution import THIS_MACHINE, Execution
from raydeblend.pipeline.inputs import examples
from raydeblend.pipeline.ledger import SUMMARY_FILE, Run, begin_output
from raydeblend.pipeline.ledger_files import list_ledger, read_loose
from raydeblend.pipeline.metrics import counted
from raydeblend.pipeline.plan import Plan
from raydeblend.pipeline.preparation import (
    WHOLE_RUN,
    Prepared,
    RunRequest,
    connect_once,
    prepare,
)
from raydeblend.pipeline.progress import track_json, watched
from raydeblend.pipeline.rounds import process
from raydeblend.pipeline.run import fail_tile
from raydeblend.pipeline.seen import fail_unseen
from raydeblend.pipeline.shards import FOLDERS
from raydeblend.pipeline.stages import Stages
from raydeblend.pipeline.summary import RunSummary, Totals, write_summary
from raydeblend.session import check_kind, claim_gpus, shared_folder
from raydeblend.wording import amount

log = logging.getLogger(__name__)


def run_catalog(
    input: str,
    out: str,
    config: CatalogConfig,
    request: RunRequest = WHOLE_RUN,
    execution: Execution = THIS_MACHINE,
    stages: Stages | None = None,
    progress: bool = True,
    log_json: bool = False,
) -> RunSummary:
    """Make the catalog of the tiles in `input`.

    Parameters
    ----------
    input, out
        Directories, local or ``s3://bucket/prefix``.
    request
        Which part of it to do, and what to do with an earlier run's output.
    execution
        Where, and with what.
    stages
        The processing of a cell, in place of that defined by `config`.
    progress
        Whether to show the run's progress.
    log_json
        Whether to write a line of JSON about each cell to standard error.

    Raises
    ------
    ConfigError
        Before any work, if the input, the output or the configuration cannot be used.
    """
    start = time.monotonic()
    check_kind(execution.address)
    with ExitStack() as session:
        watch = session.enter_context(watched(progress and not log_json))
        connect = connect_once(session, execution.address, watch.say)
        if execution.gpus:
            connect()
            claim_gpus(execution.gpus, execution.address)
        watch.say("looking for tiles, planning cells, loading the deblender")
        prepared = prepare(input, out, config, request, connect)
        root, plan, todo = prepared.root, prepared.plan, prepared.choice.now
        tiles, cells = amount(len(plan.tiles), "tile"), amount(len(plan), "cell")
        log.info("%s in %s: %s", tiles, cells, prepared.choice)
        access.check_writable(root)
        proof = ""
        if len(todo):
            # Before anything is written or replaced: the cluster may not be there, or not see it.
            connect()
            execution = _with_gpus(execution)
            proof = session.enter_context(
                shared_folder(root, examples(prepared.headers, prepared.config))
            )
        totals = _begin(prepared, request.overwrite)
        if len(todo):
            work = process(
                plan, todo, root, prepared.config, prepared.run, execution, stages, proof
            )
            n_before = len(prepared.done)
            track = partial(track_json, show=progress) if log_json else watch.track
            entries = track(counted(work, len(todo)), n_before + len(todo), before=n_before)
            try:
                totals.add_all(_compact(entries, root))
            except Stopped as stop:
                how_far = _how_far(totals, plan, out, prepared.run)
                raise Stopped(stop.number, how_far) from None
    return _finish(prepared, totals, out, time.monotonic() - start, request.price)


def _with_gpus(execution: Execution) -> Execution:
    """Check what is asked of the machines, and return it with the GPUs that they have."""
    check_room(execution.memory_per_cell)
    gpus = claim_gpus() if execution.gpus is None else execution.gpus
    return replace(execution, gpus=gpus)


def _begin(prepared: Prepared, overwrite: bool) -> Totals:
    """Write the run's record, and return the counts before its first cell."""
    root = prepared.root
    begin_output(root, prepared.run, prepared.plan, prepared.tiles, overwrite)
    totals = Totals(prepared.done)
    totals.add_all(fail_tile(root, tile) for tile in prepared.unusable)
    totals.add_all(prepared.choice.failed_before)
    return totals


def _finish(
    prepared: Prepared, totals: Totals, out: str, seconds: float, price: float | None
) -> RunSummary:
    """Check for all shards, and write the summary if anything was done."""
    root, plan, later = prepared.root, prepared.plan, prepared.choice.later
    _remove_temporary(root)
    totals = fail_unseen(root, plan, prepared.run, totals, later)
    area = _area_done(plan, totals, later)
    summary = totals.summarize(out, seconds, len(later), area, price)
    written = storage.exists(storage.join(root, SUMMARY_FILE))
    if len(prepared.choice.now) or prepared.unusable or not written:
        write_summary(root, summary)
    return summary


def _area_done(plan: Plan, totals: Totals, later: Set[tuple[str, str]]) -> float:
    """Return the square degrees of the cells that are done."""
    without = later | {entry.key for entry in totals.failures}
    done = [i for i, key in enumerate(plan.keys()) if key not in without]
    return plan.square_degrees(np.array(done, np.int64))


def _how_far(totals: Totals, plan: Plan, out: str, run: Run) -> str:
    """Say how many cells a run that was stopped has done, and how to go on with it."""
    done = totals.counts["cells"] - len(totals.failures)
    return f"{done} of {len(plan)} cells done; go on with: {resume_command(out, run)}"


def _remove_temporary(out: str) -> None:
    """Remove what killed workers left half written."""
    # Below the output there may be other runs, which are being written.
    storage.remove_temporary(out, deep=False)
    for folder in ("ledger", *FOLDERS):
        storage.remove_temporary(storage.join(out, folder))


def _compact(entries: Iterable[LedgerEntry], out: str) -> Iterator[LedgerEntry]:
    """Pass on the entries of a run and keep its ledger short."""
    compactor = LedgerCompactor(
        out, [entry for entry in read_loose(list_ledger(out)) if entry.done]
    )
    for entry in entries:
        compactor.add(entry)
        yield entry
    compactor.close()
