import os
import re
from dataclasses import replace

import outputs
import pytest
from headers import make_header
from s3 import s3_server  # noqa: F401

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.fits.manifest import to_manifest
from raydeblend.pipeline import ledger
from raydeblend.pipeline.entries import LedgerEntry, write_entry
from raydeblend.pipeline.entry_tables import from_table
from raydeblend.pipeline.ledger import Run, describe_plan, differences, keys, read_plan, read_run
from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.plan import plan_hash, plan_survey
from raydeblend.pipeline.shards import shard_path
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
    return outputs.open_output(out, run, plan_survey(tiles, 100, 20), tiles, resume, overwrite)


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
    with pytest.raises(ConfigError, match="--resume to continue or --overwrite"):
        open_output(out)
    with pytest.raises(ConfigError, match="are mutually exclusive"):
        open_output(out, resume=True, overwrite=True)


def write_finished_run(out):
    """A run of which one cell is done, with a tile that had no plan and gathered entries."""
    open_output(out)
    storage.write_bytes(shard_path(out, "t", C0), b"rows")
    write_entry(out, LedgerEntry("t", C0, "done"))
    write_entry(out, LedgerEntry("bad tile", "", "failed"))
    for name in ("ledger/compact-00000.parquet", "summary.json", "maps/depth.png"):
        storage.write_bytes(f"{out}/{name}", b"")


def test_overwrite_removes_all_that_a_run_wrote(out):
    write_finished_run(out)
    assert len(open_output(out, overwrite=True)) == 0
    assert read_entries(out) == []
    left = {path.removeprefix(f"{out}/") for path in storage.list_files(out)}
    assert left - {"maps/depth.png"} == {"run.json", "plan.parquet", "tiles.parquet"}


FOREIGN = (
    "notes.txt",
    "catalog/mine.parquet",
    "catalog/tile=t/mine.parquet",
    "catalog/tile=other/cell=y00000-00100_x00000-00100.parquet",
    "ledger/tile=t/notes.json",
    "ledger/mine.parquet",
    "maps/mine.png",
)


@pytest.mark.parametrize("name", FOREIGN)
def test_overwrite_refuses_what_is_not_the_runs_and_names_it(out, name):
    write_finished_run(out)
    storage.write_bytes(f"{out}/{name}", b"mine")
    before = storage.list_stamps(out)
    with pytest.raises(ConfigError, match=f"files that are not the run's: {re.escape(name)}; move"):
        open_output(out, overwrite=True)
    assert storage.list_stamps(out) == before


@pytest.mark.parametrize(
    ("record", "said"),
    [(None, r"holds no run \(there is no run\.json\)"), (b"", "is damaged, or the record"),
     (b'{"tool": "another"}', "is damaged, or the record")],
)  # fmt: skip
@pytest.mark.parametrize("choice", [{"overwrite": True}, {"resume": True}])
def test_a_folder_without_the_mark_of_a_run_is_left_alone(out, record, said, choice):
    for name in ("catalog/mine.parquet", "ledger/mine.txt", "tiles.parquet"):
        storage.write_bytes(f"{out}/{name}", b"mine")
    if record is not None:
        storage.write_bytes(f"{out}/run.json", record)
    before = storage.list_stamps(out)
    with pytest.raises(ConfigError, match=said):
        open_output(out, **choice)
    assert storage.list_stamps(out) == before


@pytest.mark.parametrize("survivors", [1, 2])
def test_a_driver_killed_while_it_begins_can_be_resumed_and_replaced(out, monkeypatch, survivors):
    write = storage.write_bytes
    written = []

    def killed(path, data):
        if len(written) == survivors:
            raise KeyboardInterrupt
        written.append(path)
        write(path, data)

    for choice in ({"resume": True}, {"overwrite": True}):
        written.clear()
        with monkeypatch.context() as patch:
            patch.setattr(storage, "write_bytes", killed)
            with pytest.raises(KeyboardInterrupt):
                open_output(out, **choice)
        assert len(open_output(out, **choice)) == 0
        assert len(read_plan(out)) == 2


@pytest.mark.parametrize("name", ["o?t*", "out[12]", "o*"])
def test_on_s3_no_output_is_a_pattern(s3_server, name):  # noqa: F811
    out = f"s3://tiles/{name}"
    neighbors = ("out1", "out2", "o1t1", "oxt")
    for neighbor in neighbors:
        open_output(f"s3://tiles/{neighbor}")
        write_entry(f"s3://tiles/{neighbor}", LedgerEntry("t", C0, "done"))
    before = {each: storage.list_stamps(f"s3://tiles/{each}") for each in neighbors}
    write_finished_run(out)
    open_output(out, overwrite=True)
    assert read_entries(out) == []
    assert {each: storage.list_stamps(f"s3://tiles/{each}") for each in neighbors} == before
    assert all(len(stamps) == 4 for stamps in before.values())


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
        ({"config_hash": "abd"}, r"detection, photometry or checks \('abc' then, 'abd' now\)"),
        ({"input": "elsewhere"}, r"input \('tiles' then, 'elsewhere' now\)"),
    ],
)
def test_resume_refuses_another_run_and_names_the_difference(out, change, said):
    open_output(out)
    with pytest.raises(ConfigError, match=said):
        open_output(out, replace(RUN, **change), resume=True)


@pytest.mark.parametrize("spelled", ["tiles/", "./tiles", "tiles//", "x/../tiles", "{cwd}/tiles"])
def test_one_input_may_be_spelled_in_several_ways(out, tmp_path, monkeypatch, spelled):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    open_output(out)
    open_output(out, replace(RUN, input=spelled.format(cwd=os.getcwd())), resume=True)


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


def test_a_run_of_other_versions_is_resumed_only_if_that_is_accepted(out):
    open_output(out)
    later = replace(RUN, versions={"numpy": "3", "numba": "1"})
    plan, tiles = plan_survey((TILE,), 100, 20), to_manifest((TILE,))
    said = "numba missing then, 1 now; numpy 2 then, 3 now; give --accept-other-versions"
    with pytest.raises(ConfigError, match=said):
        ledger.check_output(out, later, plan, tiles, resume=True, overwrite=False)
    assert read_run(out).versions == {"numpy": "2"}
    ledger.check_output(out, later, plan, tiles, True, False, accept_other_versions=True)
