import logging

from raydeblend.pipeline import progress
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.progress import Tally, track

ENTRIES = [LedgerEntry("t", f"c{i}", "failed" if i == 1 else "done", sources=50) for i in range(4)]


def test_the_tally_tells_rates_and_the_time_left(monkeypatch):
    clock = iter([0.0, 10.0, 10.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    tally = Tally(12)
    for entry in ENTRIES:
        tally.add(entry)
    assert tally.rates() == "200 sources, 20.0/s, 1 failed"
    # 4 of 12 cells in 10 s.
    assert tally.left() == "0:00:20 left"


def test_plain_lines_where_there_is_no_terminal(caplog):
    with caplog.at_level(logging.INFO):
        assert list(track(ENTRIES, 4, show=True)) == ENTRIES
    (line,) = caplog.messages
    assert line.startswith("4 of 4 cells; 200 sources, ")
    assert line.endswith("1 failed; 0:00:00 left")
    assert list(track(ENTRIES, 4, show=False)) == ENTRIES


def test_a_resumed_run_is_counted_from_all_cells(caplog, monkeypatch):
    clock = iter([0.0, 10.0])
    tally = Tally(20, before=12)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    tally.start = 0.0
    for entry in ENTRIES:
        tally.add(entry)
    # 4 of the 8 cells that were left took 0 s on this clock's first look, 10 s on its second.
    assert tally.left() == "0:00:00 left"
    assert tally.left() == "0:00:10 left"
    assert tally.cells == 16
    monkeypatch.undo()
    with caplog.at_level(logging.DEBUG, logger=progress.log.name):
        list(track(ENTRIES, 16, show=True, before=12))
    assert caplog.messages[-1].startswith("16 of 16 cells; 200 sources, ")
    assert caplog.messages[1] == "t c1: , 0.0 s"


def test_a_quiet_log_has_no_progress(caplog):
    with caplog.at_level(logging.WARNING):
        assert list(track(ENTRIES, 4, show=True)) == ENTRIES
    assert not caplog.messages
