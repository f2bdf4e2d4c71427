from dataclasses import replace

import pytest
from headers import make_header

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.fits.manifest import to_manifest
from raydeblend.pipeline import ledger
from raydeblend.pipeline.entries import (
    LedgerEntry,
    from_table,
    read_entries,
    shard_path,
    write_entry,
)
from raydeblend.pipeline.ledger import Run, describe_plan, differences, keys, read_plan, read_run
from raydeblend.pipeline.plan import plan_hash, plan_survey
from raydeblend.tile import BandFile

FILE = BandFile("i", "/data/t_i.fits", None, 57.5, "100:1")
TILE = replace(make_header("t", (100, 200)), files=(FILE,))
PLAN = plan_survey([TILE], 100, 20)
(_, C0), (_, C1) = PLAN.keys()
RUN = Run(
    input="tiles",
    config={"bands": ("g", "i"), "border": 96},
    config_hash="abc",
    weights={"rdn": "123"},
    versions={"numpy": "2"},
    plan=describe_plan(PLAN),
)


def open_output(out, run=RUN, tiles=(TILE,), resume=False, overwrite=False):
    plan = plan_survey(tiles, 100, 20)
    return ledger.open_output(out, run, plan, to_manifest(tiles), resume, overwrite)


@pytest.fixture
def out(tmp_path):
    return str(tmp_path / "out")


def test_run_and_plan_come_back_as_written(out):
    open_output(out)
    assert read_run(out) == replace(RUN, config={"bands": ["g", "i"], "border": 96})
    assert read_run(out).bands == ("g", "i")
    assert keys(read_plan(out)) == [("t", C0), ("t", C1)]
    assert plan_hash(read_plan(out)) == read_run(out).plan["hash"]
    assert read_run(out).plan["cells"] == 2


def test_the_description_of_a_run_does_not_grow_with_its_cells(out):
    many = [make_header(f"t{i}", origin=(300 * i, 0)) for i in range(50)]
    plan = describe_plan(plan_survey(many, 100, 20))
    ledger.write_run(out, replace(RUN, plan=plan))
    assert len(storage.read_bytes(f"{out}/run.json")) < 500


def test_an_output_in_use_is_refused(out):
    open_output(out)
    with pytest.raises(ConfigError, match="--resume to go on or --overwrite"):
        open_output(out)
    with pytest.raises(ConfigError, match="exclude each other"):
        open_output(out, resume=True, overwrite=True)


def test_overwrite_removes_what_a_run_wrote_and_nothing_else(out, tmp_path):
    open_output(out)
    write_entry(out, LedgerEntry("t", C0, "done"))
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert len(open_output(out, overwrite=True)) == 0
    assert read_entries(out) == []
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_resume_returns_what_is_done_and_forgets_tiles_that_had_no_plan(out):
    open_output(out, resume=True)
    done = LedgerEntry("t", C0, "done")
    for entry in (done, LedgerEntry("t", C1, "failed"), LedgerEntry("bad", "", "failed")):
        write_entry(out, entry)
    healed = make_header("bad", (100, 100), origin=(300, 0))
    assert list(from_table(open_output(out, tiles=[healed, TILE], resume=True))) == [done]
    assert [entry.key for entry in read_entries(out)] == [("t", C0), ("t", C1)]
    assert ("bad", C0) in keys(read_plan(out))


@pytest.mark.parametrize("how", ["came", "changed", "got a band"])
def test_cells_beside_a_tile_that_came_or_changed_are_done_again(out, how):
    beside = replace(make_header("n", (100, 100), origin=(150, 0)), files=(FILE,))
    far = replace(make_header("far", (100, 100), origin=(900, 0)), files=(FILE,))
    lacking = replace(beside, files=(replace(FILE, band="g"),))
    earlier = {"came": [], "changed": [beside], "got a band": [lacking]}[how]
    stamp = "200:2" if how == "changed" else FILE.stamp
    files = (replace(FILE, stamp=stamp), *(lacking.files if how == "got a band" else ()))
    open_output(out, tiles=[TILE, far, *earlier])
    (_, only), *_ = plan_survey([far], 100, 20).keys()
    done = [LedgerEntry("t", C0, "done"), LedgerEntry("far", only, "done")]
    for entry in done:
        write_entry(out, entry)
    storage.write_bytes(shard_path(out, "t", C0), b"rows")
    tiles = [TILE, far, replace(beside, files=files)]
    for _ in range(2):  # as often as the run is stopped before the cell is done
        left = open_output(out, tiles=tiles, resume=True)
        assert list(from_table(left)) == done[1:]
        assert not storage.exists(shard_path(out, "t", C0))
    failed = next(entry for entry in read_entries(out) if not entry.done)
    assert failed.key == ("t", C0)
    assert "beside it came or changed" in failed.reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": {"bands": ("g", "i"), "border": 50}}, r"border \(96 then, 50 now\)"),
        ({"weights": {"rdn": "456"}}, "weights .*123.*456"),
        ({"input": "elsewhere"}, r"input \('tiles' then, 'elsewhere' now\)"),
    ],
)
def test_resume_refuses_another_run_and_names_the_difference(out, change, said):
    open_output(out)
    with pytest.raises(ConfigError, match=said):
        open_output(out, replace(RUN, **change), resume=True)


def test_resume_refuses_a_plan_that_lacks_cells(out):
    open_output(out)
    with pytest.raises(ConfigError, match="1 planned cells are gone"):
        open_output(out, tiles=[replace(TILE, shape=(100, 100))], resume=True)


def changed(**values):
    return [replace(TILE, files=(replace(FILE, **values),))]


def test_resume_refuses_changed_files_of_tiles_with_cells_that_are_done(out):
    open_output(out)
    # Nothing of it is done yet: another file is as good.
    open_output(out, tiles=changed(stamp="200:2"), resume=True)
    write_entry(out, LedgerEntry("t", C0, "done"))
    with pytest.raises(ConfigError, match=r"input \(changed are tiles t\)"):
        open_output(out, resume=True)
    with pytest.raises(ConfigError, match="changed are tiles t"):
        open_output(out, tiles=changed(stamp="200:2", njy_per_count=1.0), resume=True)
    open_output(out, tiles=changed(stamp="200:2"), resume=True)
    # A manifest with headers need not know the stamps.
    open_output(out, tiles=changed(stamp=""), resume=True)


def test_equal_runs_do_not_differ_after_a_round_trip(out):
    open_output(out)
    assert differences(read_run(out), RUN) == []


def test_a_directory_that_is_no_catalog_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no run\.json"):
        read_run(str(tmp_path))
    with pytest.raises(ConfigError, match=r"no plan\.parquet"):
        read_plan(str(tmp_path))
