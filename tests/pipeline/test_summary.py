import json
from dataclasses import replace

from raydeblend import storage
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.entry_tables import to_table
from raydeblend.pipeline.summary import Totals, group_failures, summary_lines, write_summary

SECONDS = {"detect": 1.0, "deblend": 2.5}


def done(cell, sources=10):
    return LedgerEntry(
        "t", cell, "done", "", sources, 2, 7, SECONDS, flags={"EDGE": 1, "MASKED": 3}
    )


def failed(tile, cell, reason):
    return LedgerEntry(tile, cell, "failed", reason, seconds={"detect": 0.5})


FAILURES = [
    failed("9813-0,0", "c0", "detect: /data/9813-0,0_g.fits is truncated: 10 of 2880 bytes"),
    failed("9813-0,1", "c4", "detect: /data/9813-0,1_i.fits is truncated: 77 of 2880 bytes"),
    failed("bad", "", "bad_g.fits has no celestial WCS"),
]


def summary():
    totals = Totals(to_table([done("c0"), done("c1")]))
    for entry in [done("c2", sources=5), *FAILURES]:
        totals.add(entry)
    return totals.summarize("/out", 12.0)


def test_counts_are_of_the_cells_before_and_now():
    found = summary()
    assert (found.n_cells, found.n_failed, found.n_sources) == (6, 3, 25)
    assert (found.n_blends, found.n_parents) == (6, 21)
    assert found.stage_seconds == {"detect": 4.5, "deblend": 7.5}
    assert found.flags == {"EDGE": 3, "MASKED": 9}
    assert [entry.tile for entry in found.failures] == ["9813-0,0", "9813-0,1", "bad"]
    assert Totals(to_table([])).summarize("/out", 1.0).n_cells == 0


def test_a_run_is_blank_if_no_cell_has_a_usable_pixel():
    blank = [replace(done(name, sources=0), unusable=1.0) for name in ("c0", "c1", "c2")]
    totals = Totals(to_table(blank[:2]))
    totals.add(blank[2])
    assert totals.summarize("/out", 1.0).is_blank
    totals.add(done("c3"))
    found = totals.summarize("/out", 1.0)
    assert (found.n_blank, found.is_blank) == (3, False)
    assert not Totals(to_table([])).summarize("/out", 1.0).is_blank


def test_failures_of_one_kind_are_told_once():
    two, one = group_failures(summary())
    assert (two.n, two.example) == (2, FAILURES[0])
    assert two.text == "detect: (file) is truncated: # of # bytes"
    assert (one.n, one.example.tile) == (1, "bad")


def test_the_file_and_the_screen_say_the_same(tmp_path):
    found = json.loads(storage.read_bytes(write_summary(str(tmp_path), summary())))
    assert (found["cells"], found["failed"], found["sources"]) == (6, 3, 25)
    assert found["seconds_by_stage"] == {"deblend": 7.5, "detect": 4.5}
    assert found["flags"] == {"EDGE": 3, "MASKED": 9}
    assert [reason["cells"] for reason in found["failures"]] == [2, 1]
    assert found["failures"][0]["tile"] == "9813-0,0"
    lines = list(summary_lines(summary()))
    assert len(lines) < 24
    assert lines[0] == "25 sources, 6 blends in 6 cells, 12.0 s"
    assert "seconds of work: 12.0 (detect 4.5, deblend 7.5)" in lines
    assert "flags: MASKED 9, EDGE 3" in lines
    assert lines[-3:] == [f"  {e.tile} {e.cell}".rstrip() + f": {e.reason}" for e in FAILURES]


def test_many_failures_are_told_by_reason():
    totals = Totals(to_table([]))
    for i in range(30):
        totals.add(failed(f"t{i:02d}", "c0", f"detect: /data/t{i:02d}.fits is truncated"))
    totals.add(FAILURES[2])
    lines = list(summary_lines(totals.summarize("/out", 1.0)))
    assert lines[-3] == "31 cells failed:"
    assert lines[-2] == "  t00 c0: detect: /data/t00.fits is truncated (and 29 like it)"
    assert lines[-1] == "  bad: bad_g.fits has no celestial WCS"
