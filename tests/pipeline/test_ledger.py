from dataclasses import replace

import pytest

from raydeblend.errors import ConfigError
from raydeblend.pipeline.ledger import (
    LedgerEntry,
    Run,
    differences,
    entry_path,
    open_output,
    read_entries,
    read_run,
    shard_path,
    write_entry,
)

RUN = Run(
    input="tiles",
    config={"bands": ("g", "i"), "border": 96},
    config_hash="abc",
    weights={"rdn": "123"},
    versions={"numpy": "2"},
    plan={"t": ["c0", "c1"]},
)


@pytest.fixture
def out(tmp_path):
    return str(tmp_path / "out")


def test_entries_and_run_come_back_as_written(out):
    entries = [
        LedgerEntry("t", "c0", "done", sources=3, seconds={"detect": 0.5}),
        LedgerEntry("u/v", "", "failed", reason="no WCS"),
    ]
    open_output(out, RUN, resume=False, overwrite=False)
    for entry in entries:
        write_entry(out, entry)
    assert read_entries(out) == entries
    assert read_run(out).keys == {("t", "c0"), ("t", "c1")}
    assert read_run(out).bands == ("g", "i")


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "..", "a\\b", "a/../../.."])
def test_no_name_leads_outside_the_output(name):
    for path in (shard_path("/out", name, name), entry_path("/out", name, name)):
        assert path.count("/") == 4
        assert not {".", ".."} & set(path.split("/"))


def test_an_output_in_use_is_refused(out, tmp_path):
    open_output(out, RUN, resume=False, overwrite=False)
    with pytest.raises(ConfigError, match="--resume to go on or --overwrite"):
        open_output(out, RUN, resume=False, overwrite=False)
    with pytest.raises(ConfigError, match="exclude each other"):
        open_output(out, RUN, resume=True, overwrite=True)


def test_overwrite_removes_what_a_run_wrote_and_nothing_else(out, tmp_path):
    open_output(out, RUN, resume=False, overwrite=False)
    write_entry(out, LedgerEntry("t", "c0", "done"))
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert open_output(out, RUN, resume=False, overwrite=True) == []
    assert read_entries(out) == []
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"


def test_resume_returns_what_is_done_and_forgets_tiles_that_had_no_plan(out):
    open_output(out, RUN, resume=True, overwrite=False)
    done = LedgerEntry("t", "c0", "done")
    for entry in (done, LedgerEntry("t", "c1", "failed"), LedgerEntry("bad", "", "failed")):
        write_entry(out, entry)
    healed = replace(RUN, plan={**RUN.plan, "bad": ["c0"]})
    assert open_output(out, healed, resume=True, overwrite=False) == [done]
    assert [entry.key for entry in read_entries(out)] == [("t", "c0"), ("t", "c1")]
    assert ("bad", "c0") in read_run(out).keys


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"config": {"bands": ("g", "i"), "border": 50}}, r"border \(96 then, 50 now\)"),
        ({"weights": {"rdn": "456"}}, "weights .*123.*456"),
        ({"input": "elsewhere"}, r"input \('tiles' then, 'elsewhere' now\)"),
        ({"plan": {"t": ["c0"]}}, "1 planned cells are gone"),
    ],
)
def test_resume_refuses_another_run_and_names_the_difference(out, change, said):
    open_output(out, RUN, resume=False, overwrite=False)
    with pytest.raises(ConfigError, match=said):
        open_output(out, replace(RUN, **change), resume=True, overwrite=False)


def test_equal_runs_do_not_differ_after_a_round_trip(out):
    open_output(out, RUN, resume=False, overwrite=False)
    assert differences(read_run(out), RUN) == []


def test_a_directory_that_is_no_catalog_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no run\.json"):
        read_run(str(tmp_path))
