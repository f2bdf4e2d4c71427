"""A bounded sample of the rows of any number of shards, the same in whatever order they come."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]


class Sample:
    """Keeps the rows whose identifiers have the smallest hashes.

    Parameters
    ----------
    size
        Most rows that are kept.
    names
        Columns that are kept beside ``source_id``.
    """

    def __init__(self, size: int, names: Sequence[str]) -> None:
        self.size = size
        self.names = ("source_id", *names)
        self.offered = 0
        self._kept: pa.Table | None = None

    def add(self, rows: pa.Table) -> None:
        """Offer rows."""
        self.offered += len(rows)
        chosen = rows.select(self.names).replace_schema_metadata()
        table = chosen if self._kept is None else pa.concat_tables([self._kept, chosen])
        order = np.argsort(hash_of(table["source_id"].to_numpy()), kind="stable")
        self._kept = table.take(pa.array(np.sort(order[: self.size]))).combine_chunks()

    @property
    def rows(self) -> pa.Table:
        """What is kept, in order of the identifiers."""
        if self._kept is None:
            return pa.table({name: pa.array([], pa.float64()) for name in self.names})
        return self._kept.sort_by("source_id")


def hash_of(identifiers: NDArray[np.int64]) -> Numbers:
    """Return a well mixed number for each identifier (the finalizer of SplitMix64)."""
    mixed = identifiers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
