import io
import logging
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from raydeblend.pipeline import progress
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.progress import Tally, watched
from raydeblend.pipeline.ray_internals import MapOperator
from raydeblend.pipeline.under_way import UnderWay

ENTRIES = [LedgerEntry("t", f"c{i}", "failed" if i == 1 else "done", sources=50) for i in range(4)]


def track(entries, total, show, before=0):
    with watched(show) as watch:
        return list(watch.track(entries, total, before))


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
        assert track(ENTRIES, 4, show=True) == ENTRIES
    (line,) = caplog.messages
    assert line.startswith("4 of 4 cells; 200 sources, ")
    assert line.endswith("1 failed; 0:00:00 left")
    assert track(ENTRIES, 4, show=False) == ENTRIES


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
        track(ENTRIES, 16, show=True, before=12)
    assert caplog.messages[-1].startswith("16 of 16 cells; 200 sources, ")
    assert caplog.messages[1] == "t c1: , 0.0 s"


def test_a_quiet_log_has_no_progress(caplog):
    with caplog.at_level(logging.WARNING):
        assert track(ENTRIES, 4, show=True) == ENTRIES
    assert not caplog.messages


def test_lines_come_before_any_cell_does(caplog, monkeypatch):
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.01)
    monkeypatch.setattr(UnderWay, "counts", {"detect": 3, "deblend": 0})

    def said(text):
        deadline = time.monotonic() + 30
        while not any(text in line for line in caplog.messages):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def entries():
        said("0 of 4 cells; detect 3, deblend 0; the first cell is on its way")
        yield from ENTRIES

    with caplog.at_level(logging.INFO), watched(True) as watch:
        watch.say("starting Ray")
        said("starting Ray")
        assert list(watch.track(entries(), 4)) == ENTRIES


@pytest.fixture
def screen(monkeypatch):
    screen = Console(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(progress, "terminal", lambda: screen)
    return screen


def test_a_terminal_has_a_bar_and_the_log_stands_above_it(screen, monkeypatch):
    # As the command line sets it up.
    handler = logging.StreamHandler(io.StringIO())
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    with watched(True) as watch:
        watch.say("starting Ray")
        screen.print(watch.render())
        assert list(watch.track(ENTRIES, 16, before=12)) == ENTRIES
        screen.print(watch.render())
        handler.emit(logging.LogRecord("x", logging.WARNING, "x", 1, "lost [12]", (), None))
    shown = screen.file.getvalue()
    assert "0:00:00 starting Ray" in shown
    assert "16 of 16 cells 0:00:00 0:00:00 left" in shown
    assert "200 sources, " in shown
    assert "lost [12]\n" in shown
    assert handler.stream.getvalue() == ""


def test_a_quiet_command_shows_no_bar(screen, monkeypatch):
    monkeypatch.setattr(logging.getLogger("raydeblend"), "level", logging.WARNING)
    assert track(ENTRIES, 4, show=True) == ENTRIES
    assert screen.file.getvalue() == ""


def test_stages_are_counted_from_the_graph(monkeypatch):
    monkeypatch.setattr(UnderWay, "counts", {})
    assert progress.under_way() == ""
    stages = [mocked_stage(n) for n in (5, 2, 1)]
    counter = UnderWay()
    counter.on_execution_step(SimpleNamespace(_topology=[object(), *stages]))
    assert progress.under_way() == "detect 5, deblend 2, measure 1"
    counter.after_execution_succeeds(None)
    assert progress.under_way() == ""


def mocked_stage(n):
    stage = object.__new__(SomeStage)
    stage.n = n
    return stage


class SomeStage(MapOperator):
    def num_active_tasks(self):
        return self.n


SomeStage.__abstractmethods__ = frozenset()
