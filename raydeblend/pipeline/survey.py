"""A survey's tiles in, a deblended catalog out: the whole Ray Data graph.

    plan ──► detect ──► deblend ──► measure, write ──► ledger entries, to the driver
    cells    tasks      actors      tasks

`rounds` sends the cells through the graph of `graph`, whose stages are the plain callables of
`stages`; this module begins a run, keeps its ledger and ends it.

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
mistake on one cell fails that cell (`cell_state.run_stage_safely`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from raydeblend import access, storage
from raydeblend.config import CatalogConfig
from raydeblend.errors import ConfigError, Stopped
from raydeblend.fits.manifest import to_manifest
from raydeblend.pipeline.cell_memory import check_memory, check_room
from raydeblend.pipeline.command import resume_command
from raydeblend.pipeline.compactor import LedgerCompactor
from raydeblend.pipeline.cost import check_price
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.inputs import examples, find_survey_tiles, with_layout
from raydeblend.pipeline.ledger import SUMMARY_FILE, Run, begin_output, check_output, manifest_of
from raydeblend.pipeline.ledger_files import list_ledger, read_loose
from raydeblend.pipeline.metrics import counted
from raydeblend.pipeline.placed import place
from raydeblend.pipeline.plan import Plan, SecondPass, plan_survey
from raydeblend.pipeline.progress import track, track_json
from raydeblend.pipeline.rounds import process
from raydeblend.pipeline.run import describe, fail_tile
from raydeblend.pipeline.seen import cells_left, fail_unseen, with_shards, without_limited
from raydeblend.pipeline.selection import EVERYTHING, Selection, choose
from raydeblend.pipeline.shards import FOLDERS
from raydeblend.pipeline.share import parse_share
from raydeblend.pipeline.stages import Stages, choose_photometry
from raydeblend.pipeline.summary import RunSummary, Totals, write_summary
from raydeblend.pipeline.time_limit import STAGE_S
from raydeblend.positions import read_positions
from raydeblend.session import claim_gpus, ray_session, shared_folder
from raydeblend.tile import TileHeader

Row = dict[str, Any]

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
    cell_timeout: float = STAGE_S,
    retry_limited: float | None = None,
    selection: Selection = EVERYTHING,
    memory_per_cell: float | None = None,
    log_json: bool = False,
    price: float | None = None,
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
    cell_timeout
        Seconds that each stage may take on a cell; what takes longer is ended and has failed.
    retry_limited
        With `resume`, deblend footprints whose work reached a limit once more, with limits so many
        times the usual ones.
    selection
        Which of the cells that are not done to do now.
    memory_per_cell
        GiB of memory that a process which works on a cell asks Ray for: where there is less, fewer
        cells are done at a time.  None asks for nothing.
    log_json
        Whether to say of each cell what became of it, as a line of JSON on standard error.
    price
        Of a core-hour, for what a survey costs in ``summary.json``.

    Raises
    ------
    ConfigError
        Before any work, if the input, the output or the configuration cannot be used.
    """
    start, share = time.monotonic(), parse_share(part)
    selection.check(resume)
    check_price(price)
    check_memory(memory_per_cell)
    input, root = storage.absolute(input), storage.absolute(out)
    config = resolve(config, input, root)
    with ExitStack() as session:
        connect = connect_once(session, address)
        if gpus:
            connect()
            claim_gpus(gpus, address)
        headers, unusable = find_survey_tiles(input, config, connect)
        plan = plan_survey(headers, config.cell_size, config.border).only(share)
        plan = _with_positions(plan, headers, config)
        access.check_writable(root)
        run, tiles = describe(input, config, plan, share), to_manifest(headers)
        done = check_output(root, run, plan, tiles, resume, overwrite, accept_other_versions)
        done = with_shards(root, done)
        if retry_limited:
            plan = replace(plan, second_pass=SecondPass(root, retry_limited))
            done = without_limited(done, SecondPass(root, retry_limited))
        choice = choose(root, plan, cells_left(plan, done), selection, resume)
        todo = choice.now
        log.info("%d tiles in %d cells, of which %s", len(plan.tiles), len(plan), choice)
        proof = ""
        if len(todo):
            # Before anything is written or replaced: the cluster may not be there, or not see it.
            connect()
            check_room(memory_per_cell)
            gpus = claim_gpus() if gpus is None else gpus
            proof = session.enter_context(shared_folder(root, examples(headers, config)))
        begin_output(root, run, plan, tiles, overwrite)
        totals = Totals(done)
        totals.add_all(fail_tile(root, tile) for tile in unusable if share.has(tile.name))
        totals.add_all(choice.failed_before)
        if len(todo):
            how: Row = {"gpus": gpus or 0, "proof": proof, "patience": patience}
            how |= {"memory": memory_per_cell, "cell_timeout": cell_timeout}
            work = process(plan, todo, root, config, run, stages, **how)
            show = track_json if log_json else track
            n_planned = len(done) + len(todo)
            entries = show(counted(work, len(todo)), n_planned, progress, len(done))
            try:
                totals.add_all(_compact(entries, root))
            except Stopped as stop:
                raise Stopped(stop.number, _how_far(totals, plan, out, run)) from None
    _remove_temporary(root)
    totals = fail_unseen(root, plan, run, totals, choice.later)
    area = _area_done(plan, totals, choice.later)
    summary = totals.summarize(out, time.monotonic() - start, len(choice.later), area, price)
    if len(todo) or unusable or not storage.exists(storage.join(root, SUMMARY_FILE)):
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


def resolve(config: CatalogConfig, input: str, out: str) -> CatalogConfig:
    """Return the configuration with what it leaves open: places of files, layout, photometry."""
    if config.manifest is not None:
        config = replace(config, manifest=manifest_of(out, config.manifest))
    if config.weights is not None and storage.exists(config.weights):
        config = replace(config, weights=storage.absolute(config.weights))
    config = with_layout(config, input)
    if config.positions is not None:
        path = storage.absolute(config.positions)
        config = replace(
            config, positions=path, positions_hash=read_positions(path).sha256, inject=0.0
        )
    return replace(config, photometry=choose_photometry(config))


def _with_positions(plan: Plan, headers: Sequence[TileHeader], config: CatalogConfig) -> Plan:
    """Return the plan with the given positions, and say which of them will have no row."""
    if config.positions is None:
        return plan
    positions = read_positions(config.positions)
    if positions.sha256 != config.positions_hash:
        raise ConfigError(f"the positions {config.positions} change while they are read")
    placed = place(headers, positions)
    log.info(
        "%d positions on %d tiles; %d on none, %d in the pixel of another and left out",
        sum(len(tile.xy) for tile in placed.tiles),
        len(headers),
        placed.outside,
        placed.crowded,
    )
    return replace(plan, positions=placed.tiles)


def _remove_temporary(out: str) -> None:
    """Remove what killed workers left half written."""
    # Below the output there may be other runs, which are being written.
    storage.remove_temporary(out, deep=False)
    for folder in ("ledger", *FOLDERS):
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
