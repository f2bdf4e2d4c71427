"""A bounded sample of the rows of any number of shards, the same in whatever order they come."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from raydeblend.detect.ids import mixed


class Sample:
    """Keeps the rows whose identifiers have the smallest hashes.

    Parameters
    ----------
    size
        Most rows that are kept.
    names
        Columns that are kept in addition to ``source_id``.
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
        order = np.argsort(mixed(table["source_id"].to_numpy()), kind="stable")
        self._kept = table.take(pa.array(np.sort(order[: self.size]))).combine_chunks()

    @property
    def rows(self) -> pa.Table:
        """What is kept, in order of the identifiers."""
        if self._kept is None:
            return pa.table({name: pa.array([], pa.float64()) for name in self.names})
        return self._kept.sort_by("source_id")
