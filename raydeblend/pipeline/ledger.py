"""What a run is and what of it is done: ``run.json``, the plan and the ledger of an output.

A cell's shard is written before its ledger entry, both whole or not at all, under names that the
cell alone decides.  So an entry ``done`` means that the shard is there, and a cell that two
workers do by accident gives the same shard twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raydeblend import access, catalog, storage
from raydeblend.errors import ConfigError
from raydeblend.fits.manifest import NEEDED, changed_tiles, new_tiles, write_manifest
from raydeblend.paths import same_place
from raydeblend.pipeline.entries import (
    PLAN_FAILURE,
    LedgerEntry,
    entry_path,
    plain,
    to_json,
    write_entry,
)
from raydeblend.pipeline.entry_tables import SCHEMA
from raydeblend.pipeline.ledger_files import list_ledger, set_aside, try_ledger
from raydeblend.pipeline.plan import BOX, Plan, plan_hash
from raydeblend.pipeline.shards import FOLDERS, cell_files, earlier_path, move_shards
from raydeblend.pipeline.share import parse_share

RUN_FILE, PLAN_FILE, TILES_FILE = "run.json", "plan.parquet", "tiles.parquet"
SUMMARY_FILE = "summary.json"
OUTDATED = "a tile beside it came or changed since, with which it shares what is primary"
NAMED = 3
"""How many tiles or files a message names."""
RECORDS = (RUN_FILE, SUMMARY_FILE, TILES_FILE, PLAN_FILE)
UNNAMED = re.compile(
    r"ledger/(compact-\d+\.parquet|tile=[^/]+/plan\.json)"
    r"|(catalog|ledger|parents)/.+\.damaged"
    r"|maps/((depth|density|failures|blended|completeness|bias|pulls)\.png|cells\.parquet)"
)
"""Files below an output that are this package's though no plan names them: tables of entries, tiles
without a plan, damaged files set aside, and what `raydeblend map` drew of the catalog."""


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
        Its hash, and that of what was tuned in the photometry.
    weights
        Hash of the weights by deblender, of the joint one that of what was tuned in it.
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
    access.check_answers(out)
    path = storage.join(out, RUN_FILE)
    if not storage.exists(path):
        raise ConfigError(f"{out} holds no catalog: it has no {RUN_FILE}")
    data = storage.read_bytes(path)
    try:
        return _to_run(json.loads(data))
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{path} is damaged, or the record of another version or tool: {error}"
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


def check_output(
    out: str,
    run: Run,
    plan: Plan,
    tiles: pa.Table,
    resume: bool,
    overwrite: bool,
    accept_other_versions: bool = False,
) -> pa.Table:
    """Return the ledger of the cells of `out` that need not be done again; nothing is changed.

    Parameters
    ----------
    tiles
        Their manifest, see `raydeblend.fits.manifest`.
    accept_other_versions
        Go on though other versions of raydeblend or of a package that it computes with made what is
        done.

    Raises
    ------
    ConfigError
        If `out` is in use and neither `resume` nor `overwrite` says what to do, if both do, if
        the run that began there is not the same as `run`, or if what is to be replaced is no run
        or not a run's alone.
    """
    if resume and overwrite:
        raise ConfigError("resume and overwrite are mutually exclusive")
    found = storage.list_files(out)
    if not found:
        return SCHEMA.empty_table()
    _check_mark(out, found)
    if resume:
        if not accept_other_versions:
            _check_versions(out, run)
        return _resume(out, run, plan, tiles)
    if not overwrite:
        raise ConfigError(
            f"{out} is not empty; give --resume to continue or --overwrite to replace it"
        )
    foreign = sorted(set(found) - _own_files(out, found))
    if foreign:
        raise ConfigError(
            f"{out} cannot be replaced, since it holds files that are not the run's: "
            f"{_some(out, foreign)}; move that away, or choose another location"
        )
    return SCHEMA.empty_table()


def begin_output(out: str, run: Run, plan: Plan, tiles: pa.Table, overwrite: bool) -> None:
    """Write what a run is, in place of an earlier one if that is to be overwritten."""
    if overwrite:
        _remove(out)
    elif storage.exists(storage.join(out, PLAN_FILE)):
        _clear_outdated(out, plan, tiles)
    # The mark of a run comes first: what a killed driver leaves can be resumed and replaced.
    write_run(out, run)
    write_manifest(storage.join(out, TILES_FILE), tiles)
    write_plan(out, plan.to_table())
    # Tiles that were unusable then may be planned now; their entry must not outlive that.
    unplanned = [path for path in list_ledger(out).loose if path.endswith(f"/{PLAN_FAILURE}")]
    storage.remove_files(unplanned)


def _check_versions(out: str, run: Run) -> None:
    """Refuse to let one catalog mix the results of several versions without a word."""
    earlier = read_run(out).versions
    names = sorted(earlier.keys() | run.versions.keys())
    changes = [
        f"{name} {earlier.get(name, 'missing')} then, {run.versions.get(name, 'missing')} now"
        for name in names
        if earlier.get(name) != run.versions.get(name)
    ]
    if changes:
        raise ConfigError(
            f"cannot resume {out}, it was begun with other versions: {'; '.join(changes)}; give "
            "--accept-other-versions to let one catalog mix them"
        )


def _resume(out: str, run: Run, plan: Plan, tiles: pa.Table) -> pa.Table:
    changes = differences(read_run(out), run)
    done = SCHEMA.empty_table()
    ledger, _ = try_ledger(out)
    # Without a plan the driver was killed before the first cell.
    if len(ledger) or storage.exists(storage.join(out, PLAN_FILE)):
        done = ledger.filter(pc.equal(ledger["status"], "done"))
        changes += _lost_cells(read_plan(out), plan)
        changes += _changed_input(out, tiles, done)
    if changes:
        raise ConfigError(f"cannot resume {out}, it was begun with another {'; '.join(changes)}")
    return done.filter(pc.invert(_outdated(out, plan, tiles, done))) if len(done) else done


def _outdated(out: str, plan: Plan, tiles: pa.Table, done: pa.Table) -> pa.BooleanArray:
    """Tell which cells that are done must be done again.

    A tile that came or changed takes part in deciding which rows of the tiles around it are
    primary.
    """
    earlier = _read_table(out, TILES_FILE, NEEDED)
    come = {*new_tiles(earlier, tiles), *changed_tiles(earlier, tiles)}
    return pc.is_in(done["tile"], pa.array(sorted(plan.around(come)), pa.string()))


def _clear_outdated(out: str, plan: Plan, tiles: pa.Table) -> None:
    """Put aside what is damaged, move what lies elsewhere, and fail what is outdated."""
    ledger, damaged = try_ledger(out)
    set_aside(damaged)
    move_shards(out)
    done = ledger.filter(pc.equal(ledger["status"], "done"))
    if not len(done):
        return
    for tile, cell in keys(done.filter(_outdated(out, plan, tiles, done))):
        write_entry(out, LedgerEntry(tile, cell, "failed", OUTDATED))
        storage.remove_files(cell_files(out, tile, cell))


def _check_mark(out: str, found: Sequence[str]) -> None:
    """Check that `out`, which holds files, holds a run: its ``run.json``."""
    if storage.join(storage.absolute(out), RUN_FILE) not in found:
        raise ConfigError(
            f"{out} is not empty and holds no run (there is no {RUN_FILE}), but "
            f"{_some(out, found)}; choose another location"
        )
    read_run(out)


def _some(out: str, paths: Sequence[str]) -> str:
    base = storage.join(storage.absolute(out), "")
    more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
    return ", ".join(path.removeprefix(base) for path in paths[:NAMED]) + more


def _own_files(out: str, found: Iterable[str]) -> set[str]:
    """Return those of the files in `out` that a run wrote: what its plan names, and its records."""
    root = storage.absolute(out)
    planned = storage.exists(storage.join(root, PLAN_FILE))
    cells = keys(read_plan(root)) if planned else []
    named = {storage.join(root, name) for name in RECORDS}
    for key in cells:
        files = cell_files(root, *key)
        named |= {entry_path(root, *key), *files, earlier_path(files[0])}
    base = storage.join(root, "")
    return {path for path in found if path in named or UNNAMED.fullmatch(path.removeprefix(base))}


def _remove(out: str) -> None:
    """Remove what a run wrote, except for its mark: entries before the shards they stand for."""
    own = _own_files(out, storage.list_files(out))
    for part in ("ledger", *FOLDERS):
        folder = storage.join(storage.absolute(out), part)
        storage.remove_files(sorted(path for path in own if path.startswith(f"{folder}/")))
        storage.remove_empty_folders(folder)
    storage.remove_files([storage.join(out, name) for name in RECORDS if name != RUN_FILE])


def _lost_cells(earlier: pa.Table, plan: Plan) -> list[str]:
    gone = set(keys(earlier)) - set(plan.keys())
    return [f"plan ({len(gone)} planned cells are gone from the input)"] if gone else []


def _changed_input(out: str, tiles: pa.Table, done: pa.Table) -> list[str]:
    """Tell of tiles with cells that are done and files that are not what they were then."""
    begun = set(done["tile"].unique().to_pylist())
    changed = [t for t in changed_tiles(_read_table(out, TILES_FILE, NEEDED), tiles) if t in begun]
    more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
    return [f"input (changed are tiles {', '.join(changed[:NAMED])}{more})"] if changed else []


def manifest_of(out: str, manifest: str) -> str:
    """Return the path of a manifest as the run that began in `out`, if any, has spelled it.

    The spelling enters the configuration's hash, which resumed cells must share with the others.
    """
    if storage.exists(storage.join(out, RUN_FILE)):
        earlier = read_run(out).config.get("manifest")
        if earlier and same_place(earlier, manifest):
            return str(earlier)
    return storage.absolute(manifest)


def differences(earlier: Run, later: Run) -> list[str]:
    """Say in what a later run is not the same as an earlier one; empty if it is."""
    said = [
        _change(name, earlier.config.get(name), value)
        for name, value in plain(later.config).items()
        # Weights are compared by their content, below.
        if name not in ("weights", "positions", "templates") and earlier.config.get(name) != value
    ]
    if earlier.part != later.part:
        said.append(_change("part", earlier.part, later.part))
    if not same_place(earlier.input, later.input):
        said.append(_change("input", earlier.input, later.input))
    if dict(earlier.weights) != dict(later.weights):
        said.append(_change("weights", dict(earlier.weights), dict(later.weights)))
    if not said and earlier.config_hash != later.config_hash:
        said.append(
            _change("detection, photometry or checks", earlier.config_hash, later.config_hash)
        )
    return said


def _change(name: str, earlier: object, later: object) -> str:
    return f"{name} ({earlier!r} then, {later!r} now)"
