"""Whether a catalog is complete: the plan, the ledger and the shards against each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import KDTree

from raydeblend import catalog, storage
from raydeblend.pipeline.entries import DamagedEntryError, LedgerEntry
from raydeblend.pipeline.entry_tables import from_table, read_table
from raydeblend.pipeline.files_check import check_files
from raydeblend.pipeline.ledger import Run, keys, read_plan, read_run
from raydeblend.pipeline.ledger_files import list_ledger, try_loose
from raydeblend.pipeline.plan import BOX, plan_hash
from raydeblend.pipeline.rows import counts
from raydeblend.pipeline.runs import named_runs
from raydeblend.pipeline.shards import cell_of, list_shards, read_shard, shard_path
from raydeblend.pipeline.verdict import CellCounts, Problem, RunVerdict, Verdict, cell_name
from raydeblend.tile import Box

# Copies of a source in two tiles of one sky grid agree to a fraction of a pixel.
SAME_PLACE_ARCSEC = 0.05
SOURCE = ["source_id", "ra", "dec", "is_primary", "tile"]
THREADS = 16
COUNTED = ("sources", "blends", "parents")

Key = tuple[str, str]
Found = tuple[list[Problem], pa.Table | None]


def verify_catalog(out: str) -> list[str]:
    """Return what is wrong with the catalog in `out`, one sentence for each problem.

    A cell that failed is a problem, and so is one that has not been done.

    Raises
    ------
    ConfigError
        If `out` holds no catalog, or its run or plan cannot be read.
    """
    return verify_parts([out])


def verify_parts(outs: Sequence[str]) -> list[str]:
    """Return what is wrong with the catalogs of runs that share a survey, as `verify_catalog`.

    Raises
    ------
    ConfigError
        If one of them is no catalog.
    """
    return [problem.text for problem in check_parts(outs).problems]


def check_parts(outs: Sequence[str]) -> Verdict:
    """Count the cells of runs that share a survey, and find what is wrong with their catalogs.

    Raises
    ------
    ConfigError
        If one of them is no catalog.
    """
    outs = named_runs(outs)
    runs = [read_run(out) for out in outs]
    checked = [_check_run(out, run) for out, run in zip(outs, runs, strict=True)]
    shards = [shard for _, of_run in checked for shard in of_run]
    together = [*_check_parts(outs, runs), *_check_sources(shards)]
    return Verdict(tuple(verdict for verdict, _ in checked), tuple(together))


def _check_parts(outs: Sequence[str], runs: Sequence[Run]) -> Iterator[Problem]:
    """Tell which parts of a survey are missing, if several are given, or given twice."""
    parts = Counter(run.part for run in runs)
    number = {part.partition("/")[2] for part in parts}
    if len(outs) < 2:
        return
    if len(number) > 1:
        yield Problem(
            "cuts",
            f"{' and '.join(outs)} are parts of different cuts of a survey: {', '.join(parts)}",
        )
        return
    of = int(number.pop())
    for part in (f"{i}/{of}" for i in range(1, of + 1)):
        if parts[part] != 1:
            yield Problem("parts", f"part {part} of the survey is given {parts[part]} times")


def _check_run(out: str, run: Run) -> tuple[RunVerdict, list[pa.Table]]:
    """Return what is wrong within one output, and its sources."""
    plan = read_plan(out)
    inner = _inner_regions(plan)
    problems: list[Problem] = []
    if plan_hash(plan) != run.plan["hash"]:
        problems.append(Problem("plans", f"{out}/plan.parquet is not the plan that run.json names"))
    entries = _read_ledger(out, problems)
    whole, shards = _read_shards(out, run, inner, entries, problems)
    problems += check_files(out, run, [entry for entry in entries if entry.key in whole])
    cells = _count(inner, entries, whole)
    if not len(plan) and not cells.failed and run.part == "1/1":
        problems.append(Problem("plans", f"{out} is a run of no cell: its input had no tile"))
    problems += [*_not_done(inner, entries), *_check_ledger(run, inner, entries)]
    return RunVerdict(out, run, cells, tuple(problems)), shards


def _inner_regions(plan: pa.Table) -> dict[Key, Box]:
    edges = zip(*(plan[name].to_pylist() for name in BOX), strict=True)
    return {key: Box(*box) for key, box in zip(keys(plan), edges, strict=True)}


def _read_ledger(out: str, problems: list[Problem]) -> list[LedgerEntry]:
    """Return the entry of each cell: that of its own file, or else of the last table."""
    files = list_ledger(out)
    read = try_loose(files)
    gathered: list[LedgerEntry] = []
    for path in files.tables:
        try:
            of_table = list(from_table(_table(path)))
        except DamagedEntryError as error:
            read.append(error)
            continue
        gathered += of_table
        problems += _twice(path, of_table)
    damaged = [error for error in read if isinstance(error, DamagedEntryError)]
    problems += [Problem("damaged files of the ledger", str(error)) for error in damaged]
    loose = [entry for entry in read if isinstance(entry, LedgerEntry)]
    return list({entry.key: entry for entry in [*gathered, *loose]}.values())


def _twice(path: str, entries: Iterable[LedgerEntry]) -> Iterator[Problem]:
    seen = Counter(entry.key for entry in entries)
    for (tile, cell), n in seen.items():
        if n > 1:
            text = f"cell {cell} of tile {tile} is in {path} {n} times"
            yield Problem("cells that are in the ledger more than once", text)


def _table(path: str) -> pa.Table:
    return read_table(path).drop_columns(["seconds", "flags"])


def _count(
    planned: Mapping[Key, Box], entries: Iterable[LedgerEntry], whole: set[Key]
) -> CellCounts:
    failed = {entry.key for entry in entries if not entry.done and entry.key in planned}
    unplanned = {entry.key for entry in entries if not entry.cell}
    done = (whole & planned.keys()) - failed
    missing = len(planned) - len(failed) - len(done)
    return CellCounts(len(done), len(failed) + len(unplanned), missing, len(unplanned))


def _not_done(planned: Mapping[Key, Box], entries: Sequence[LedgerEntry]) -> Iterator[Problem]:
    for entry in sorted((e for e in entries if not e.done), key=lambda e: e.key):
        kind = "cells that failed" if entry.cell else "tiles that could not be planned"
        word = "failed" if entry.cell else "could not be planned"
        yield Problem(kind, f"{cell_name(entry)} {word}: {' '.join(entry.reason.split())}")
    for tile, cell in sorted(planned.keys() - {entry.key for entry in entries}):
        text = f"cell {cell} of tile {tile} is planned but not in the ledger"
        yield Problem("cells that are planned but not in the ledger", text)


def _check_ledger(
    run: Run, planned: Mapping[Key, Box], entries: Iterable[LedgerEntry]
) -> Iterator[Problem]:
    for tile, cell in sorted({e.key for e in entries if e.cell} - planned.keys()):
        text = f"cell {cell} of tile {tile} is in the ledger but not planned"
        yield Problem("cells that are not planned", text)
    for entry in entries:
        if entry.cell and entry.config_hash != run.config_hash:
            text = f"{cell_name(entry)} was made with another configuration, {entry.config_hash}"
            yield Problem("cells of another configuration", text)
        if entry.cell and entry.weights_hash not in run.weights.values():
            text = f"{cell_name(entry)} was made with other weights, {entry.weights_hash}"
            yield Problem("cells of other weights", text)


def _read_shards(
    out: str,
    run: Run,
    inner: Mapping[Key, Box],
    entries: Sequence[LedgerEntry],
    problems: list[Problem],
) -> tuple[set[Key], list[pa.Table]]:
    """Return the cells whose shards are whole, and the sources of all that can be read."""
    found = {cell_of(path): path for path in list_shards(out)}
    expected = {cell_of(shard_path(out, *entry.key)): entry for entry in entries if entry.done}
    for tail in sorted(expected.keys() - found.keys()):
        text = f"the shard of {cell_name(expected[tail])} is missing"
        problems.append(Problem("shards that are missing", text))
    for tail in sorted(found.keys() - expected.keys()):
        text = f"{found[tail]} belongs to no cell of the ledger"
        problems.append(Problem("shards that belong to no cell", text))
    present = [entry for tail, entry in expected.items() if tail in found]
    with ThreadPoolExecutor(THREADS) as pool:
        read = list(pool.map(partial(_read_shard, out, run, inner), present))
    problems += [problem for wrong, _ in read for problem in wrong]
    whole = {entry.key for entry, (wrong, _) in zip(present, read, strict=True) if not wrong}
    return whole, [sources for _, sources in read if sources is not None]


def _read_shard(out: str, run: Run, inner: Mapping[Key, Box], entry: LedgerEntry) -> Found:
    """Return what is wrong with one shard, and of its rows the columns of `SOURCE`."""
    path = shard_path(out, *entry.key)
    try:
        table = read_shard(path)
    except (pa.ArrowException, OSError) as error:
        text = f"{path} cannot be read: {storage.explain(error)}"
        return [Problem("shards that cannot be read", text)], None
    wrong = _check_shard(run, entry, inner.get(entry.key), table)
    problems = [Problem("shards that are not what the ledger says", text) for text in wrong]
    present = set(SOURCE) <= set(table.column_names)
    return problems, table.select(SOURCE) if present else None


def _check_shard(run: Run, entry: LedgerEntry, inner: Box | None, table: pa.Table) -> Iterator[str]:
    if not table.schema.equals(catalog.schema(run.bands), check_metadata=False):
        yield f"the shard of {cell_name(entry)} has other columns than the catalog"
        return
    for column, value in (("tile", entry.tile), ("cell", entry.cell)):
        foreign = set(table[column].unique().to_pylist()) - {value}
        if foreign:
            yield f"the shard of {cell_name(entry)} holds rows of {column} {min(foreign)}"
    recorded = {name: getattr(entry, name) for name in COUNTED}
    found = counts(table, inner) if inner else recorded
    if recorded != {name: found[name] for name in COUNTED}:
        yield f"the shard of {cell_name(entry)} has {found}, the ledger says {recorded}"


def _check_sources(shards: list[pa.Table]) -> Iterator[Problem]:
    if not shards:
        return
    table = pa.concat_tables(shards)
    ids, times = np.unique(table["source_id"].to_numpy(), return_counts=True)
    for identifier, n in zip(ids[times > 1], times[times > 1], strict=True):
        text = f"source {identifier} is in the catalog {n} times"
        yield Problem("sources that are in the catalog more than once", text)
    primary = table.filter(table["is_primary"])
    for i, j in _twins(primary):
        first, second = primary["source_id"][i], primary["source_id"][j]
        text = f"sources {first} and {second} of two tiles are at one place and both primary"
        yield Problem("pairs of sources at one place", text)


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
