"""A catalog of random sources over some degrees of sky, as a run leaves it, without pixels."""

from __future__ import annotations

import numpy as np

from raydeblend import catalog, storage
from raydeblend.pipeline.entries import LedgerEntry, write_entry
from raydeblend.pipeline.ledger import Run, write_run
from raydeblend.pipeline.shards import shard_path

BANDS = ("g", "i")
CENTER, SIDE = (150.0, 2.0), 4.0
PER_CELL = 500


def write_catalog(out: str, n_tiles: int = 3, n_cells: int = 4, seed: int = 0) -> None:
    """Write shards, ledger and run.json; every tenth source is a copy that is not primary."""
    cells = [(f"t%,{t}", f"c{c}") for t in range(n_tiles) for c in range(n_cells)]
    plan = {"tiles": n_tiles, "cells": len(cells), "hash": ""}
    write_run(out, Run("tiles", {"bands": list(BANDS)}, "abc", {"sep": ""}, {}, plan))
    rng = np.random.default_rng(seed)
    for number, (tile, cell) in enumerate(cells):
        table = catalog.to_table(_rows(rng, tile, cell, number * PER_CELL), BANDS)
        storage.write_bytes(shard_path(out, tile, cell), catalog.to_bytes(table))
        counts = {"sources": len(table), "parents": len(table)}
        write_entry(out, LedgerEntry(tile, cell, "done", config_hash="abc", **counts))


def _rows(rng: np.random.Generator, tile: str, cell: str, first: int) -> dict[str, np.ndarray]:
    n, fields = PER_CELL, catalog.schema(BANDS)
    words = [field.name for field in fields if "string" in str(field.type)]
    rows = {field.name: rng.uniform(0, 1, n) for field in fields}
    rows |= {name: np.full(n, "x") for name in words}
    rows |= {"tile": np.full(n, tile), "cell": np.full(n, cell)}
    rows["source_id"] = rows["parent_id"] = (1 << 60) + first + np.arange(n)
    rows |= {"n_blended": np.ones(n, int), "flags": np.full(n, 1 << 3)}
    rows["is_primary"] = np.arange(n) % 10 > 0
    rows["ra"] = CENTER[0] + SIDE * (rng.uniform(size=n) - 0.5)
    rows["dec"] = CENTER[1] + SIDE * (rng.uniform(size=n) - 0.5)
    rows["flux_g"] = np.where(np.arange(n) % 7 == 0, np.nan, rng.lognormal(5, 1, n))
    return rows
