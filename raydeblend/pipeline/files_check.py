"""Checks of the files next to the catalog: all there, and every peak a row or counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain

import numpy as np
import pyarrow as pa

from raydeblend import catalog, storage
from raydeblend.parents import SCHEMA, unaccounted
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.ledger import Run
from raydeblend.pipeline.parents import count_parents
from raydeblend.pipeline.shards import (
    folders_of,
    parents_path,
    read_shard,
    shard_path,
    without_file,
)
from raydeblend.pipeline.verdict import Problem, cell_name

THREADS = 16
MISSING, WRONG = (
    "files beside the catalog that are missing",
    "tables of footprints that are not what the catalog says",
)


def check_files(out: str, run: Run, entries: Sequence[LedgerEntry]) -> list[Problem]:
    """Return what is wrong with the other files of cells whose shards are intact."""
    folders = folders_of(run.config)
    lost = [(folder, without_file(out, folder, (e.key for e in entries))) for folder in folders]
    problems = [
        Problem(MISSING, f"{out}/{folder} has no file of {cell_name(entry)}")
        for folder, keys in lost
        for entry in entries
        if entry.key in keys
    ]
    checked = [entry for entry in entries if folders and entry.key not in lost[0][1]]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda entry: list(_check(out, entry)), checked))
    return [*problems, *chain.from_iterable(found)]


def _check(out: str, entry: LedgerEntry) -> Iterator[Problem]:
    path = parents_path(out, *entry.key)
    try:
        parents = catalog.from_bytes(storage.read_bytes(path))
        rows = read_shard(shard_path(out, *entry.key))
    except (pa.ArrowException, OSError) as error:
        yield Problem(WRONG, f"{path} cannot be read: {storage.explain(error)}")
        return
    wrong = partial(Problem, WRONG)
    yield from (wrong(f"{path} {text}") for text in _contradictions(entry, parents, rows))


def _contradictions(entry: LedgerEntry, parents: pa.Table, rows: pa.Table) -> Iterator[str]:
    """Yield what a cell's table of footprints says that is not so."""
    if not parents.schema.equals(SCHEMA, check_metadata=False):
        yield "has other columns than a table of footprints"
        return
    left = unaccounted(parents)
    for i in np.flatnonzero(left).tolist():
        yield f"leaves {left[i]} peaks of footprint {parents['parent_id'][i]} without a reason"
    told = dict(zip(*(parents[n].to_pylist() for n in ("parent_id", "n_sources")), strict=True))
    found = Counter(rows["parent_id"].to_pylist())
    for parent in sorted(told.keys() | found.keys()):
        if told.get(parent, 0) != found[parent]:
            yield (
                f"has {told.get(parent, 0)} sources of footprint {parent}, "
                f"the shard {found[parent]}"
            )
    counted = count_parents(parents)
    recorded = {name: getattr(entry, name) for name in counted}
    if recorded != counted:
        yield f"has {counted}, the ledger says {recorded}"
