import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from headers import make_header
from outputs import open_output

from raydeblend import catalog
from raydeblend.pipeline.compactor import LedgerCompactor
from raydeblend.pipeline.entries import LedgerEntry, entry_path, write_entry
from raydeblend.pipeline.ledger import Run, describe_plan, write_plan
from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.rows import counts
from raydeblend.pipeline.shards import shard_path
from raydeblend.pipeline.verdict import CellCounts
from raydeblend.pipeline.verify import check_parts, verify_catalog
from raydeblend.tile import Box

TILES = [make_header("t", (100, 200)), make_header("u", (100, 100), origin=(200, 0))]
PLAN = plan_survey(TILES, 100, 20)
(_, C0), (_, C1), _ = PLAN.keys()
WORDS = ("input_id", "model", "photometry", "deblender", "quality")
RUN = Run("tiles", {"bands": ["i"]}, "abc", {"sep": ""}, {}, describe_plan(PLAN))


def make_shard(tile, cell, first_id, n=4, dec=0.0, is_primary=True):
    x0 = 100 * (cell == C1)
    rows = {name: np.zeros(n) for name in catalog.schema(("i",)).names}
    rows |= {name: np.full(n, "x") for name in WORDS}
    rows |= {"tile": np.full(n, tile), "cell": np.full(n, cell)}
    rows |= {
        "source_id": first_id + np.arange(n),
        "parent_id": [x0, x0, x0 + 1, x0 + 2],
        "flags": [0] * n,
    }
    rows |= {"n_blended": [2, 2, 1, 1], "is_primary": np.full(n, is_primary)}
    rows |= {"ra": 10.0 + first_id / 1000 + np.arange(n) / 3600, "dec": np.full(n, dec)}
    return catalog.to_table(rows, ("i",))


def write_cell(out, tile, cell, table):
    path = Path(shard_path(out, tile, cell))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(catalog.to_bytes(table))
    hashes = {"weights_hash": "", "config_hash": "abc"}
    box = PLAN.box(PLAN.keys().index((tile, cell))) if cell in (C0, C1) else Box(0, 0, 100, 100)
    write_entry(out, LedgerEntry(tile, cell, "done", **counts(table, box), **hashes))


@pytest.fixture
def out(tmp_path):
    """A whole catalog of two tiles and three cells."""
    out = str(tmp_path / "out")
    open_output(out, RUN, PLAN, TILES)
    for first_id, (tile, cell) in enumerate(PLAN.keys()):
        write_cell(out, tile, cell, make_shard(tile, cell, 100 * first_id))
    return out


def only(problems):
    assert len(problems) == 1, problems
    return problems[0]


def test_a_whole_catalog_has_no_problem(out):
    assert verify_catalog(out) == []


def test_cells_that_failed_and_tiles_without_a_plan_are_not_done(out):
    Path(shard_path(out, "t", C1)).unlink()
    failed = LedgerEntry("t", C1, "failed", reason="bad", config_hash="abc")
    write_entry(out, failed)
    write_entry(out, LedgerEntry("broken", "", "failed", reason="no WCS"))
    assert verify_catalog(out) == [
        "tile broken could not be planned: no WCS",
        f"cell {C1} of tile t failed: bad",
    ]
    (run,) = check_parts([out]).runs
    assert run.cells == CellCounts(done=2, failed=2, missing=0, unplanned=1)


def test_counts_cells_that_were_never_begun_or_lost_their_shard(out):
    for damage, missing in ((Path.unlink, 1), (lambda path: path.write_bytes(b"PAR1"), 2)):
        damage(Path(shard_path(out, "t", (C1, C0)[missing - 1])))
        assert check_parts([out]).runs[0].cells == CellCounts(3 - missing, 0, missing)
    Path(entry_path(out, "u", C0)).unlink()
    assert check_parts([out]).runs[0].cells == CellCounts(0, 0, 3)


def test_a_run_whose_tiles_all_failed_at_planning_is_not_complete(tmp_path):
    out, plan = str(tmp_path / "out"), plan_survey([], 100, 20)
    run = replace(RUN, plan=describe_plan(plan))
    open_output(out, run, plan, [])
    assert "its input had no tile" in only(verify_catalog(out))
    write_entry(out, LedgerEntry("t", "", "failed", reason="no WCS"))
    assert only(verify_catalog(out)) == "tile t could not be planned: no WCS"
    assert check_parts([out]).runs[0].cells == CellCounts(0, 1, 0, 1)


def test_finds_a_missing_shard(out):
    Path(shard_path(out, "t", C1)).unlink()
    assert only(verify_catalog(out)) == f"the shard of cell {C1} of tile t is missing"


def test_finds_a_truncated_shard(out):
    path = Path(shard_path(out, "t", C1))
    path.write_bytes(path.read_bytes()[:-9])
    assert "cannot be read" in only(verify_catalog(out))


def test_finds_a_foreign_shard(out):
    shutil.copy(shard_path(out, "t", C1), shard_path(out, "t", "c9"))
    assert "cell=c9.parquet belongs to no cell" in only(verify_catalog(out))


def test_finds_a_shard_copied_over_another(out):
    shutil.copy(shard_path(out, "t", C0), shard_path(out, "t", C1))
    said = verify_catalog(out)
    assert f"the shard of cell {C1} of tile t holds rows of cell {C0}" in said
    assert "source 0 is in the catalog 2 times" in said


def with_column(table, name, other):
    """The table with a column of another."""
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), other[name])


def test_finds_a_source_that_two_tiles_both_own(out):
    write_cell(out, "u", C0, make_shard("u", C0, 1000, n=4))
    table = make_shard("u", C0, 1000)
    table = with_column(table, "ra", make_shard("t", C0, 0))
    write_cell(out, "u", C0, table)
    assert all("both primary" in said for said in verify_catalog(out))
    assert len(verify_catalog(out)) == 4
    copies = with_column(table, "is_primary", make_shard("t", C0, 0, is_primary=False))
    write_cell(out, "u", C0, copies)
    assert verify_catalog(out) == []


def test_finds_a_cell_without_ledger_entry(out):
    Path(entry_path(out, "t", C1)).unlink()
    said = verify_catalog(out)
    assert f"cell {C1} of tile t is planned but not in the ledger" in said
    assert any(f"cell={C1}.parquet belongs to no cell" in s for s in said)


def test_finds_a_cell_that_is_twice_in_the_ledger(out):
    shutil.copy(entry_path(out, "t", C1), entry_path(out, "t", "again"))
    assert "is the entry of another cell" in only(verify_catalog(out))
    entry = read_entries(out)[0]
    Path(entry_path(out, "t", "again")).unlink()
    LedgerCompactor(out, [entry, entry]).write_table()
    assert "compact-00000.parquet 2 times" in only(verify_catalog(out))


def test_finds_cells_that_were_not_planned_and_files_that_are_no_entries(out):
    write_cell(out, "t", "c7", make_shard("t", "c7", 700))
    assert only(verify_catalog(out)) == "cell c7 of tile t is in the ledger but not planned"
    Path(entry_path(out, "t", "c7")).write_text(json.dumps({"tile": "t"}))
    assert any("is not a ledger entry" in said for said in verify_catalog(out))


def test_finds_counts_configurations_and_weights_that_differ(out):
    entry = LedgerEntry("t", C1, "done", sources=4, blends=1, parents=3, config_hash="abc")
    write_entry(out, replace(entry, sources=5))
    assert "the ledger says {'sources': 5" in only(verify_catalog(out))
    write_entry(out, replace(entry, config_hash="old"))
    assert "another configuration, old" in only(verify_catalog(out))
    write_entry(out, replace(entry, weights_hash="w"))
    assert "other weights, w" in only(verify_catalog(out))


def test_reads_gathered_entries_and_files_of_their_own_alike(out):
    LedgerCompactor(out, [entry for entry in read_entries(out) if entry.tile == "t"]).write_table()
    assert verify_catalog(out) == []
    Path(shard_path(out, "t", C1)).unlink()
    assert only(verify_catalog(out)) == f"the shard of cell {C1} of tile t is missing"
    table = Path(out, "ledger", "compact-00000.parquet")
    table.write_bytes(table.read_bytes()[:-9])
    assert any("compact-00000.parquet cannot be read" in said for said in verify_catalog(out))


def test_finds_a_plan_that_is_not_the_runs(out):
    write_plan(out, PLAN.to_table()[:2])
    said = verify_catalog(out)
    assert f"{out}/plan.parquet is not the plan that run.json names" in said
    assert f"cell {C0} of tile u is in the ledger but not planned" in said


def test_a_footprint_in_two_cells_counts_in_that_of_its_brightest_peak():
    table = make_shard("t", C0, 0)  # parents at x = 0 (two sources), 1 and 2
    here, there = counts(table, Box(0, 0, 100, 2)), counts(table, Box(0, 2, 100, 200))
    assert (here["sources"], here["blends"], here["parents"]) == (4, 1, 2)
    assert (there["sources"], there["blends"], there["parents"]) == (4, 0, 1)


def early(table):
    """The shard as versions wrote it that did not have the columns added since."""
    added = [pattern.fullmatch for pattern in catalog.ADDED]
    names = [name for name in table.column_names if not any(match(name) for match in added)]
    return table.select(names)


def test_a_catalog_of_an_early_version_is_whole(out):
    for first_id, (tile, cell) in enumerate(PLAN.keys()):
        write_cell(out, tile, cell, early(make_shard(tile, cell, 100 * first_id)))
    assert verify_catalog(out) == []


def test_a_shard_that_lacks_an_early_column_is_not(out):
    (tile, cell), *_ = PLAN.keys()
    write_cell(out, tile, cell, early(make_shard(tile, cell, 0)).drop_columns(["chi2"]))
    assert "has other columns than the catalog" in "".join(verify_catalog(out))
