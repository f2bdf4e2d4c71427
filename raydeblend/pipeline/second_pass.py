"""More work for footprints that reached a limit, in cells that are done.

A cell's second pass detects it again, deblends and measures those footprints alone, and puts
their rows in the place of the old ones.  The rows of all others stay as they are.  The table of
footprints says what is due: it is written after the shard, so a pass that was killed in between is
made again.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raydeblend import catalog, storage
from raydeblend.errors import ConfigError
from raydeblend.parents import Shortfall
from raydeblend.pipeline.detected import Detected
from raydeblend.pipeline.parents import count_parents
from raydeblend.pipeline.plan import CellTask, SecondPass
from raydeblend.pipeline.rows import Measured, counts
from raydeblend.pipeline.shards import parents_path, read_shard, shard_path

Key = tuple[str, str]
OF_SOURCES = ("models", "residual")
"""Products that more work changes."""


def check_renewable(out: str, save: Sequence[str]) -> None:
    """Check that nothing is, or is to be, saved that a second pass would leave as it was.

    Raises
    ------
    ConfigError
        If so.
    """
    here = [name for name in OF_SOURCES if storage.list_files(storage.join(out, name))]
    if save or here:
        kept = ", ".join(save or here)
        raise ConfigError(
            f"--retry-limited cannot update what --save keeps ({kept}); start the run from scratch"
        )


def due_again(detected: Detected) -> Detected:
    """Keep of the footprints of a cell those that are due, if it is the cell's second pass."""
    again = detected.task.second_pass
    due = None if again is None else limited_in(again, *_key(detected.task))
    if again is None or due is None:
        return detected
    mine = tuple(blend for blend in detected.blends if blend.parent_id in due)
    return replace(detected, blends=mine, work_factor=again.factor)


def limited_in(again: SecondPass, tile: str, cell: str) -> Set[int] | None:
    """Return the footprints of a cell whose work ended at less than is to be allowed now.

    None if the cell is not done.
    """
    try:
        _, parents = _read(again.out, (tile, cell))
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
    limited = pc.equal(parents["shortfall"], str(Shortfall.LIMITED))
    less = pc.less(parents["work_factor"], pa.scalar(again.factor, pa.float32()))
    return set(parents.filter(pc.and_(limited, less))["parent_id"].to_pylist())


def with_others(measured: Measured) -> Measured:
    """Return the rows of a second pass among those of the first that it does not replace."""
    again = measured.task.second_pass
    if again is None or measured.work_factor == 1:
        return measured
    rows, parents = _read(again.out, _key(measured.task))
    return replace(
        measured,
        table=_joined(rows, measured.table, measured.parents).sort_by("source_id"),
        parents=_joined(parents, measured.parents, measured.parents).sort_by("parent_id"),
    )


def _joined(old: pa.Table, new: pa.Table, parents: pa.Table) -> pa.Table:
    """Return old rows of footprints that are not in a table of them, and new rows."""
    replaced = pc.is_in(old["parent_id"], parents["parent_id"].combine_chunks())
    kept = old.filter(pc.invert(replaced)).cast(new.schema)
    return pa.concat_tables([kept, new]).combine_chunks()


def standing(task: CellTask) -> dict[str, Any]:
    """Return what the ledger says of a cell whose second pass failed: what the first one left.

    Empty if it was no second pass, or nothing is left.
    """
    if task.second_pass is None:
        return {}
    try:
        rows, parents = _read(task.second_pass.out, _key(task))
    except (*storage.READ_ERRORS, pa.ArrowInvalid):
        return {}
    return counts(rows, task.cell.inner) | count_parents(parents)


def _read(out: str, key: Key) -> tuple[pa.Table, pa.Table]:
    parents = catalog.from_bytes(storage.read_bytes(parents_path(out, *key)))
    return read_shard(shard_path(out, *key)), parents


def _key(task: CellTask) -> Key:
    return task.cell.tile.name, task.cell.name
