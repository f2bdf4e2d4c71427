"""What a run is and what of it is done: ``run.json``, the plan and the ledger of an output.

A cell's shard is written before its ledger entry, both whole or not at all, under names that the
cell alone decides.  So an entry ``done`` means that the shard is there, and a cell that two
workers do by accident gives the same shard twice.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raydeblend import catalog, storage
from raydeblend.errors import ConfigError
from raydeblend.fits.manifest import NEEDED, changed_tiles, new_tiles, write_manifest
from raydeblend.pipeline.entries import (
    SCHEMA,
    LedgerEntry,
    entry_path,
    plain,
    set_aside,
    shard_path,
    to_json,
    try_ledger,
    write_entry,
)
from raydeblend.pipeline.plan import BOX, Plan, plan_hash
from raydeblend.pipeline.shards import move_shards, without_shard
from raydeblend.pipeline.share import parse_share

RUN_FILE, PLAN_FILE, TILES_FILE = "run.json", "plan.parquet", "tiles.parquet"
SUMMARY_FILE = "summary.json"
OUTDATED = "a tile beside it came or changed since, with which it shares what is primary"
NAMED = 3
"""How many tiles a message names."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What a run is: written to ``run.json`` before any cell is done.

    Attributes
    ----------
    input
        Where the tiles are.
    config
        The fields of the `CatalogConfig`.
    config_hash
        Its hash.
    weights
        Hash of the weights by deblender.
    versions
        Of the packages that can change a result.
    plan
        The number of tiles in the survey and of cells in ``plan.parquet``, its hash, and which
        ``part`` of the survey it is, where it is not the whole.
    """

    input: str
    config: Mapping[str, Any]
    config_hash: str
    weights: Mapping[str, str]
    versions: Mapping[str, str]
    plan: Mapping[str, Any]

    @property
    def part(self) -> str:
        """Which of several runs this is, such as ``2/4``."""
        return str(self.plan.get("part", "1/1"))

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands of the catalog."""
        return tuple(self.config["bands"])


def write_run(out: str, run: Run) -> None:
    """Write ``run.json``."""
    storage.write_bytes(storage.join(out, RUN_FILE), to_json(asdict(run)))


def read_run(out: str) -> Run:
    """Read ``run.json``.

    Raises
    ------
    ConfigError
        If there is none, so that `out` is no catalog; if it is damaged or another version's;
        or if its s3 server does not answer.
    """
    storage.check_answers(out)
    path = storage.join(out, RUN_FILE)
    if not storage.exists(path):
        raise ConfigError(f"{out} holds no catalog: it has no {RUN_FILE}")
    data = storage.read_bytes(path)
    try:
        return _to_run(json.loads(data))
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{path} is damaged or of another version, so that {out} cannot be told for a catalog: "
            f"{error}"
        ) from error


def _to_run(values: object) -> Run:
    """Return the run that ``run.json`` describes; a ValueError or TypeError if it does not."""
    if not isinstance(values, dict):
        raise TypeError("it is no JSON object")
    run = Run(**values)
    for f in fields(Run):
        wanted = str if f.type == "str" else dict
        if not isinstance(getattr(run, f.name), wanted):
            raise TypeError(f"{f.name} cannot be {getattr(run, f.name)!r}")
    bands = run.config.get("bands")
    if not (isinstance(bands, list) and bands and all(isinstance(band, str) for band in bands)):
        raise TypeError(f"bands cannot be {bands!r}")
    if not isinstance(run.plan.get("hash"), str):
        raise TypeError("it names no plan")
    parse_share(run.part)
    return run


def describe_plan(plan: Plan) -> dict[str, Any]:
    """Return what ``run.json`` says of a plan."""
    return {"tiles": len(plan.tiles), "cells": len(plan), "hash": plan_hash(plan.to_table())}


def write_plan(out: str, table: pa.Table) -> None:
    """Write ``plan.parquet``: a row per cell, see `Plan.to_table`."""
    storage.write_bytes(storage.join(out, PLAN_FILE), catalog.to_bytes(table))


def read_plan(out: str) -> pa.Table:
    """Read ``plan.parquet``.

    Raises
    ------
    ConfigError
        If there is none or it is damaged.
    """
    return _read_table(out, PLAN_FILE, ("tile", "cell", *BOX))


def _read_table(out: str, name: str, needed: tuple[str, ...]) -> pa.Table:
    try:
        table = catalog.from_bytes(storage.read_bytes(storage.join(out, name)))
    except FileNotFoundError as error:
        raise ConfigError(f"{out} has no {name}") from error
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{out} has no {name} that can be read: {error}") from error
    for column in needed:
        if column not in table.column_names or table[column].null_count:
            raise ConfigError(f"{out} has no {name} that can be read: it lacks values of {column}")
    return table


def keys(table: pa.Table) -> list[tuple[str, str]]:
    """Return tile and cell of every row of a plan or of a table of entries."""
    return list(zip(table["tile"].to_pylist(), table["cell"].to_pylist(), strict=True))


def open_output(
    out: str, run: Run, plan: Plan, tiles: pa.Table, resume: bool, overwrite: bool
) -> pa.Table:
    """Make `out` ready for a run and return the ledger of the cells that are done already.

    Parameters
    ----------
    tiles
        Their manifest, see `raydeblend.fits.manifest`.

    Raises
    ------
    ConfigError
        If `out` is in use and neither `resume` nor `overwrite` says what to do, if both do, or
        if the run that began there is not the same as `run`.
    """
    if resume and overwrite:
        raise ConfigError("resume and overwrite exclude each other")
    done = SCHEMA.empty_table()
    if overwrite:
        _remove(out)
    elif resume and storage.exists(storage.join(out, RUN_FILE)):
        done = _resume(out, run, plan, tiles)
    elif storage.list_files(out, ""):
        raise ConfigError(
            f"{out} is not empty; give --resume to go on or --overwrite to replace it"
        )
    write_manifest(storage.join(out, TILES_FILE), tiles)
    write_plan(out, plan.to_table())
    # Last: without it there is no run to resume.
    write_run(out, run)
    return done


def _remove(out: str) -> None:
    """Remove what a run writes, and nothing else that may lie there."""
    for name in (RUN_FILE, "catalog", "ledger", PLAN_FILE, TILES_FILE, SUMMARY_FILE):
        storage.remove_tree(storage.join(out, name))


def _resume(out: str, run: Run, plan: Plan, tiles: pa.Table) -> pa.Table:
    earlier = read_run(out)
    ledger, damaged = try_ledger(out)
    done = ledger.filter(pc.equal(ledger["status"], "done"))
    changes = differences(earlier, run)
    changes += _lost_cells(read_plan(out), plan)
    changes += _changed_input(out, tiles, done)
    if changes:
        raise ConfigError(f"cannot resume {out}, it was begun with another {'; '.join(changes)}")
    set_aside(damaged)
    move_shards(out)
    # Tiles that were unusable then may be planned now; their entry must not outlive that.
    unplanned = ledger.filter(pc.equal(ledger["cell"], ""))
    for tile in unplanned["tile"].to_pylist():
        storage.remove_tree(entry_path(out, tile, ""))
    return _still_valid(out, plan, tiles, done)


def _still_valid(out: str, plan: Plan, tiles: pa.Table, done: pa.Table) -> pa.Table:
    """Return the cells done that need not be done again, and record the others as failed.

    A tile that came or changed takes part in deciding which rows of the tiles around it are
    primary.
    """
    earlier = _read_table(out, TILES_FILE, NEEDED)
    come = {*new_tiles(earlier, tiles), *changed_tiles(earlier, tiles)}
    outdated = pc.is_in(done["tile"], pa.array(sorted(plan.around(come)), pa.string()))
    for tile, cell in keys(done.filter(outdated)):
        write_entry(out, LedgerEntry(tile, cell, "failed", OUTDATED))
        storage.remove_tree(shard_path(out, tile, cell))
    return done.filter(pc.invert(outdated))


def with_shards(out: str, done: pa.Table) -> pa.Table:
    """Leave out of a ledger of cells done those whose shard was lost since."""
    lost = without_shard(out, keys(done)) if len(done) else set()
    if not lost:
        return done
    log.warning("%d cells in the ledger of %s have lost their shard; done again", len(lost), out)
    return done.filter(pa.array([key not in lost for key in keys(done)], pa.bool_()))


def _lost_cells(earlier: pa.Table, plan: Plan) -> list[str]:
    gone = set(keys(earlier)) - set(plan.keys())
    return [f"plan ({len(gone)} planned cells are gone from the input)"] if gone else []


def _changed_input(out: str, tiles: pa.Table, done: pa.Table) -> list[str]:
    """Tell of tiles with cells that are done and files that are not what they were then."""
    begun = set(done["tile"].unique().to_pylist())
    changed = [t for t in changed_tiles(_read_table(out, TILES_FILE, NEEDED), tiles) if t in begun]
    more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    return [f"input (changed are tiles {', '.join(changed[:NAMED])}{more})"] if changed else []


def differences(earlier: Run, later: Run) -> list[str]:
    """Say in what a later run is not the same as an earlier one; empty if it is."""
    said = [
        _change(name, earlier.config.get(name), value)
        for name, value in plain(later.config).items()
        if earlier.config.get(name) != value
    ]
    if earlier.part != later.part:
        said.append(_change("part", earlier.part, later.part))
    if earlier.input != later.input:
        said.append(_change("input", earlier.input, later.input))
    if dict(earlier.weights) != dict(later.weights):
        said.append(_change("weights", dict(earlier.weights), dict(later.weights)))
    return said


def _change(name: str, earlier: object, later: object) -> str:
    return f"{name} ({earlier!r} then, {later!r} now)"
