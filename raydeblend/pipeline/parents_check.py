"""Whether every detected peak of a catalog is a row or counted: the tables of footprints."""

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
from raydeblend.pipeline.parents import count_parents
from raydeblend.pipeline.shards import parents_path, read_shard, shard_path
from raydeblend.pipeline.verdict import Problem, cell_name

HAS_PARENTS = "save"
"""Of a run's configuration; those of earlier versions do not have it, nor tables of footprints."""
THREADS = 16
MISSING, WRONG = (
    "tables of footprints that are missing",
    "tables of footprints that are not what the catalog says",
)


def check_parents(out: str, entries: Sequence[LedgerEntry]) -> list[Problem]:
    """Return what is wrong with the tables of footprints of cells whose shards are whole."""
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda entry: list(_check(out, entry)), entries))
    return list(chain.from_iterable(found))


def _check(out: str, entry: LedgerEntry) -> Iterator[Problem]:
    path = parents_path(out, *entry.key)
    try:
        parents = catalog.from_bytes(storage.read_bytes(path))
        rows = read_shard(shard_path(out, *entry.key))
    except FileNotFoundError:
        yield Problem(MISSING, f"the table of footprints of {cell_name(entry)} is missing")
        return
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
