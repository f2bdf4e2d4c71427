"""Whether the driver sees the shards that the ledger calls done.

A shard that it does not see may lie on another machine, if the nodes do not share the output, or be
gone.  Such a cell is not done.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Set

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydeblend import storage
from raydeblend.parents import Shortfall
from raydeblend.pipeline.entry_tables import from_table
from raydeblend.pipeline.ledger import Run, keys, read_run
from raydeblend.pipeline.ledger_files import read_ledger
from raydeblend.pipeline.outcome import fail_cell
from raydeblend.pipeline.plan import Plan, SecondPass
from raydeblend.pipeline.second_pass import limited_in
from raydeblend.pipeline.shards import folders_of, is_whole, shard_path, without_file, without_shard
from raydeblend.pipeline.summary import Totals
from raydeblend.wording import amount

LOST = "its shard is not in the output as the driver sees it; do all machines share that folder?"

log = logging.getLogger(__name__)


def without_limited(done: pa.Table, again: SecondPass) -> pa.Table:
    """Leave out the cells of a ledger with footprints that a second pass is due for."""
    short = [dict(pairs or ()) for pairs in done["shortfalls"].to_pylist()]
    due = [
        bool(each.get(Shortfall.LIMITED)) and bool(limited_in(again, *key))
        for each, key in zip(short, keys(done), strict=True)
    ]
    log.info("footprints whose work reached its limit: in %s", amount(sum(due), "cell"))
    return done.filter(pc.invert(pa.array(due, pa.bool_())))


def with_shards(out: str, done: pa.Table) -> pa.Table:
    """Leave out the cells that a ledger has as done and of which a file cannot be seen."""
    cells = keys(done)
    lost = set(unseen(out, cells))
    for folder in folders_of(read_run(out).config) if cells else ():
        lost |= without_file(out, folder, cells)
    if lost:
        log.warning("%d cells of %s lost their files and are done again", len(lost), out)
    return done.filter(pa.array([key not in lost for key in keys(done)], pa.bool_()))


def unseen(out: str, cells: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return those of the cells, by tile and cell, whose shards cannot be seen from here."""
    root = storage.absolute(out)
    missing = without_shard(root, cells)
    # The listing of a network's folder may be some seconds old.
    return [key for key in sorted(missing) if not is_whole(shard_path(root, *key))]


def fail_unseen(
    out: str, plan: Plan, run: Run, totals: Totals, later: Set[tuple[str, str]] = frozenset()
) -> Totals:
    """Record done cells whose shards cannot be seen from here as failed, and count again.

    Cells that another run does `later` have none.
    """
    without = later | {entry.key for entry in totals.failures}
    lost = set(unseen(out, (key for key in plan.keys() if key not in without)))  # noqa: SIM118
    if not lost:
        return totals
    (weights_hash,) = run.weights.values()
    for i, key in enumerate(plan.keys()):
        if key in lost:
            fail_cell(plan.task(i), out, LOST, weights_hash, run.config_hash)
    ledger = read_ledger(out)
    is_done = pc.equal(ledger["status"], "done")
    totals = Totals(ledger.filter(is_done))
    totals.add_all(from_table(ledger.filter(pc.invert(is_done))))
    return totals


def cells_left(plan: Plan, done: pa.Table) -> NDArray[np.int64]:
    """Return the numbers of the cells that are not in a ledger of those done."""
    finished = set(keys(done))
    return np.array([i for i, key in enumerate(plan.keys()) if key not in finished], np.int64)
