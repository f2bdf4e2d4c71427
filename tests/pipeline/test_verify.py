import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raydeblend import catalog
from raydeblend.pipeline.ledger import (
    LedgerEntry,
    Run,
    entry_path,
    open_output,
    shard_path,
    write_entry,
)
from raydeblend.pipeline.verify import verify_catalog

CELLS = ("c0", "c1")
RUN = Run("tiles", {"bands": ["i"]}, "abc", {"sep": ""}, {}, {"t": CELLS, "u": ("c0",)})


def make_shard(tile, cell, first_id, n=4, dec=0.0, is_primary=True):
    rows = {name: np.zeros(n) for name in catalog.schema(("i",)).names}
    rows |= {name: np.full(n, "x") for name in ("model", "photometry", "deblender", "quality")}
    rows |= {"tile": np.full(n, tile), "cell": np.full(n, cell)}
    rows |= {"source_id": first_id + np.arange(n), "parent_id": [0, 0, 1, 2], "flags": [0] * n}
    rows |= {"n_blended": [2, 2, 1, 1], "is_primary": np.full(n, is_primary)}
    rows |= {"ra": 10.0 + first_id / 1000 + np.arange(n) / 3600, "dec": np.full(n, dec)}
    return catalog.to_table(rows, ("i",))


def write_cell(out, tile, cell, table):
    path = Path(shard_path(out, tile, cell))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(catalog.to_bytes(table))
    hashes = {"weights_hash": "", "config_hash": "abc"}
    write_entry(out, LedgerEntry(tile, cell, "done", **catalog.counts(table), **hashes))


@pytest.fixture
def out(tmp_path):
    """A whole catalog of two tiles and three cells."""
    out = str(tmp_path / "out")
    open_output(out, RUN, resume=False, overwrite=False)
    for first_id, (tile, cell) in enumerate([("t", "c0"), ("t", "c1"), ("u", "c0")]):
        write_cell(out, tile, cell, make_shard(tile, cell, 100 * first_id))
    return out


def only(problems):
    assert len(problems) == 1, problems
    return problems[0]


def test_a_whole_catalog_has_no_problem(out):
    assert catalog.counts(make_shard("t", "c0", 0)) == {"sources": 4, "blends": 1, "parents": 3}
    assert verify_catalog(out) == []


def test_a_failed_cell_is_no_problem_of_the_bookkeeping(out):
    Path(shard_path(out, "t", "c1")).unlink()
    failed = LedgerEntry("t", "c1", "failed", reason="bad", config_hash="abc")
    write_entry(out, failed)
    write_entry(out, LedgerEntry("broken", "", "failed", reason="no WCS"))
    assert verify_catalog(out) == []


def test_finds_a_missing_shard(out):
    Path(shard_path(out, "t", "c1")).unlink()
    assert only(verify_catalog(out)) == "the shard of cell c1 of tile t is missing"


def test_finds_a_truncated_shard(out):
    path = Path(shard_path(out, "t", "c1"))
    path.write_bytes(path.read_bytes()[:-9])
    assert "cannot be read" in only(verify_catalog(out))


def test_finds_a_foreign_shard(out):
    shutil.copy(shard_path(out, "t", "c1"), shard_path(out, "t", "c9"))
    assert "cell=c9.parquet belongs to no cell" in only(verify_catalog(out))


def test_finds_a_shard_copied_over_another(out):
    shutil.copy(shard_path(out, "t", "c0"), shard_path(out, "t", "c1"))
    said = verify_catalog(out)
    assert "the shard of cell c1 of tile t holds rows of cell c0" in said
    assert "source 0 is in the catalog 2 times" in said


def test_finds_a_source_that_two_tiles_both_own(out):
    write_cell(out, "u", "c0", make_shard("u", "c0", 1000, n=4))
    table = make_shard("u", "c0", 1000)
    table = table.set_column(5, table.schema.field(5), make_shard("t", "c0", 0)["ra"])
    write_cell(out, "u", "c0", table)
    assert all("both primary" in said for said in verify_catalog(out))
    assert len(verify_catalog(out)) == 4
    copies = table.set_column(
        9, table.schema.field(9), make_shard("t", "c0", 0, is_primary=False)["is_primary"]
    )
    write_cell(out, "u", "c0", copies)
    assert verify_catalog(out) == []


def test_finds_a_cell_without_ledger_entry(out):
    Path(entry_path(out, "t", "c1")).unlink()
    said = verify_catalog(out)
    assert "cell c1 of tile t is planned but not in the ledger" in said
    assert any("cell=c1.parquet belongs to no cell" in s for s in said)


def test_finds_a_cell_that_is_twice_in_the_ledger(out):
    shutil.copy(entry_path(out, "t", "c1"), entry_path(out, "t", "again"))
    said = verify_catalog(out)
    assert "cell c1 of tile t is in the ledger 2 times" in said
    assert any("is the entry of another cell" in s for s in said)


def test_finds_cells_that_were_not_planned_and_files_that_are_no_entries(out):
    write_cell(out, "t", "c7", make_shard("t", "c7", 700))
    assert only(verify_catalog(out)) == "cell c7 of tile t is in the ledger but not planned"
    Path(entry_path(out, "t", "c7")).write_text(json.dumps({"tile": "t"}))
    assert any("is not a ledger entry" in said for said in verify_catalog(out))


def test_finds_counts_configurations_and_weights_that_differ(out):
    entry = LedgerEntry("t", "c1", "done", sources=4, blends=1, parents=3, config_hash="abc")
    write_entry(out, replace(entry, sources=5))
    assert "the ledger says {'sources': 5" in only(verify_catalog(out))
    write_entry(out, replace(entry, config_hash="old"))
    assert "another configuration, old" in only(verify_catalog(out))
    write_entry(out, replace(entry, weights_hash="w"))
    assert "other weights, w" in only(verify_catalog(out))
