"""Whether a catalog is complete: the plan, the ledger and the shards against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import KDTree

from raydeblend import catalog, storage
from raydeblend.pipeline.entries import (
    LedgerEntry,
    entry_path,
    from_table,
    list_ledger,
    read_entry,
    read_table,
    shard_path,
)
from raydeblend.pipeline.ledger import Run, keys, read_plan, read_run
from raydeblend.pipeline.plan import BOX, plan_hash
from raydeblend.pipeline.rows import counts
from raydeblend.tile import Box

# Copies of a source in two tiles of one sky grid agree to a fraction of a pixel.
SAME_PLACE_ARCSEC = 0.05
SOURCE = ["source_id", "ra", "dec", "is_primary", "tile"]
THREADS = 16
COUNTED = ("sources", "blends", "parents")


def verify_catalog(out: str) -> list[str]:
    """Return what is wrong with the catalog in `out`, one sentence for each problem.

    Cells that are recorded as failed are no problem of the catalog's bookkeeping; the run itself
    has told of them.

    Raises
    ------
    ConfigError
        If `out` holds no catalog.
    """
    return verify_parts([out])


def verify_parts(outs: Sequence[str]) -> list[str]:
    """Return what is wrong with the catalogs of runs that share a survey, as `verify_catalog`.

    Raises
    ------
    ConfigError
        If one of them is no catalog.
    """
    runs = [read_run(out) for out in outs]
    checked = [_check_run(out, run) for out, run in zip(outs, runs, strict=True)]
    shards = [shard for _, of_run in checked for shard in of_run]
    problems = [problem for found, _ in checked for problem in found]
    return [*problems, *_check_parts(outs, runs), *_check_sources(shards)]


def _check_parts(outs: Sequence[str], runs: Sequence[Run]) -> Iterator[str]:
    """Tell which parts of a survey are missing, if several are given, or given twice."""
    parts = Counter(run.part for run in runs)
    number = {part.partition("/")[2] for part in parts}
    if len(outs) < 2:
        return
    if len(number) > 1:
        yield f"{' and '.join(outs)} are parts of different cuts of a survey: {', '.join(parts)}"
        return
    of = int(number.pop())
    for part in (f"{i}/{of}" for i in range(1, of + 1)):
        if parts[part] != 1:
            yield f"part {part} of the survey is given {parts[part]} times"


def _check_run(out: str, run: Run) -> tuple[list[str], list[pa.Table]]:
    """Return what is wrong within one output, and its sources."""
    plan = read_plan(out)
    problems: list[str] = []
    if plan_hash(plan) != run.plan["hash"]:
        problems.append(f"{out}/plan.parquet is not the plan that run.json names")
    inner = _inner_regions(plan)
    entries = _read_ledger(out, problems)
    problems += _check_ledger(run, inner.keys(), entries)
    problems += _check_shard_names(out, entries)
    shards = []
    with ThreadPoolExecutor(THREADS) as pool:
        for found, shard in pool.map(partial(_read_shard, out, run, inner), entries):
            problems += found
            shards += [] if shard is None else [shard]
    return problems, shards


def _inner_regions(plan: pa.Table) -> dict[tuple[str, str], Box]:
    edges = zip(*(plan[name].to_pylist() for name in BOX), strict=True)
    return {key: Box(*box) for key, box in zip(keys(plan), edges, strict=True)}


def _read_ledger(out: str, problems: list[str]) -> list[LedgerEntry]:
    """Return all entries; one that is gathered and has its file too is read from that."""
    files = list_ledger(out)
    loose = _read_loose(files.loose, problems)
    own = {entry.key for entry in loose}
    gathered = [entry for path in files.tables for entry in _read_gathered(path, problems)]
    return [*(entry for entry in gathered if entry.key not in own), *loose]


def _read_gathered(path: str, problems: list[str]) -> Iterator[LedgerEntry]:
    try:
        yield from from_table(read_table(path).drop_columns(["seconds", "flags"]))
    except (pa.ArrowException, OSError) as error:
        problems.append(f"{path} cannot be read: {error}")


def _read_loose(paths: Iterable[str], problems: list[str]) -> list[LedgerEntry]:
    entries = []
    for path in paths:
        try:
            entry = read_entry(path)
        except (ValueError, TypeError) as error:
            problems.append(f"{path} is not a ledger entry: {error}")
            continue
        if not _same_path(path, entry_path("", *entry.key)):
            problems.append(f"{path} is the entry of another cell, {_name(entry)}")
        entries.append(entry)
    return entries


def _check_ledger(
    run: Run, planned: Set[tuple[str, str]], entries: Iterable[LedgerEntry]
) -> Iterator[str]:
    seen = Counter(entry.key for entry in entries if entry.cell)
    for tile, cell in sorted(planned - seen.keys()):
        yield f"cell {cell} of tile {tile} is planned but not in the ledger"
    for tile, cell in sorted(seen.keys() - planned):
        yield f"cell {cell} of tile {tile} is in the ledger but not planned"
    for (tile, cell), n in sorted(seen.items()):
        if n > 1:
            yield f"cell {cell} of tile {tile} is in the ledger {n} times"
    for entry in entries:
        if entry.cell and entry.config_hash != run.config_hash:
            yield f"{_name(entry)} was made with another configuration, {entry.config_hash}"
        if entry.cell and entry.weights_hash not in run.weights.values():
            yield f"{_name(entry)} was made with other weights, {entry.weights_hash}"


def _check_shard_names(out: str, entries: Iterable[LedgerEntry]) -> Iterator[str]:
    expected = {_tail(shard_path(out, *entry.key)): entry for entry in entries if entry.done}
    found = {
        _tail(path): path for path in storage.list_files(storage.join(out, "catalog"), ".parquet")
    }
    for tail in sorted(expected.keys() - found.keys()):
        yield f"the shard of {_name(expected[tail])} is missing"
    for tail in sorted(found.keys() - expected.keys()):
        yield f"{found[tail]} belongs to no cell of the ledger"


def _read_shard(
    out: str, run: Run, inner: Mapping[tuple[str, str], Box], entry: LedgerEntry
) -> tuple[list[str], pa.Table | None]:
    """Return what is wrong with one shard, and of its rows the columns of `SOURCE`."""
    path = shard_path(out, *entry.key)
    if not entry.done or not storage.exists(path):
        return [], None
    try:
        table = catalog.from_bytes(storage.read_bytes(path))
    except (pa.ArrowException, OSError) as error:
        return [f"{path} cannot be read: {storage.explain(error)}"], None
    problems = list(_check_shard(run, entry, inner.get(entry.key), table))
    present = set(SOURCE) <= set(table.column_names)
    return problems, table.select(SOURCE) if present else None


def _check_shard(run: Run, entry: LedgerEntry, inner: Box | None, table: pa.Table) -> Iterator[str]:
    if not table.schema.equals(catalog.schema(run.bands), check_metadata=False):
        yield f"the shard of {_name(entry)} has other columns than the catalog"
        return
    for column, value in (("tile", entry.tile), ("cell", entry.cell)):
        foreign = set(table[column].unique().to_pylist()) - {value}
        if foreign:
            yield f"the shard of {_name(entry)} holds rows of {column} {min(foreign)}"
    recorded = {name: getattr(entry, name) for name in COUNTED}
    found = counts(table, inner) if inner else recorded
    if recorded != {name: found[name] for name in COUNTED}:
        yield f"the shard of {_name(entry)} has {found}, the ledger says {recorded}"


def _check_sources(shards: list[pa.Table]) -> Iterator[str]:
    if not shards:
        return
    table = pa.concat_tables(shards).unify_dictionaries()
    ids, times = np.unique(table["source_id"].to_numpy(), return_counts=True)
    for identifier, n in zip(ids[times > 1], times[times > 1], strict=True):
        yield f"source {identifier} is in the catalog {n} times"
    primary = table.filter(table["is_primary"])
    for i, j in _twins(primary):
        first, second = primary["source_id"][i], primary["source_id"][j]
        yield f"sources {first} and {second} of two tiles are at one place and both primary"


def _twins(primary: pa.Table) -> NDArray[np.int64]:
    """Return pairs of rows from different tiles at one place in the sky."""
    if not primary.num_rows:
        return np.empty((0, 2), dtype=np.int64)
    ra, dec = (np.radians(primary[name].to_numpy()) for name in ("ra", "dec"))
    sky = np.column_stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    pairs = KDTree(sky).query_pairs(np.radians(SAME_PLACE_ARCSEC / 3600), output_type="ndarray")
    tiles = np.asarray(primary["tile"].to_pylist())
    different = tiles[pairs[:, 0]] != tiles[pairs[:, 1]]
    return np.asarray(pairs[different])


def _name(entry: LedgerEntry) -> str:
    return f"cell {entry.cell} of tile {entry.tile}" if entry.cell else f"tile {entry.tile}"


def _tail(path: str) -> str:
    """Return the part of a path that names tile and cell, whatever the root is called."""
    return "/".join(path.split("/")[-2:])


def _same_path(first: str, second: str) -> bool:
    return _tail(first) == _tail(second)
