"""A stage that takes too long fails its cell, and the run goes on."""

import logging
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial

import deaths
import pytest
from ray import cloudpickle

from raydeblend import storage
from raydeblend.errors import TileError
from raydeblend.pipeline.execution import Execution
from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.preparation import RunRequest
from raydeblend.pipeline.stages import stages_of
from raydeblend.pipeline.survey import run_catalog
from raydeblend.pipeline.time_limit import LimitedStage, TimeLimit, take_notes

LOOPS, SLEEPS = "y00105-00210_x00105-00210", "y00000-00105_x00315-00420"
"""A cell that keeps Python busy, and one whose code no exception reaches."""

HANG = """
import ctypes, sys, types
from raydeblend.pipeline.time_limit import LimitedStage, TimeLimit

def hang(content):
    # All other threads wait as long as this sleeps.
    ctypes.PyDLL(None).sleep(60)

LimitedStage(hang, "deblend", TimeLimit(0.5, sys.argv[1], grace=0.5))(None)
"""


def loop(content):
    while True:
        pass


def test_a_stage_that_comes_back_in_time_is_left_alone(tmp_path):
    limited = LimitedStage(lambda content: 2 * content, "detect", TimeLimit(60, str(tmp_path)))
    assert limited(21) == 42
    assert threading.active_count() < 50


def test_an_endless_loop_is_interrupted(tmp_path):
    limited = LimitedStage(loop, "deblend", TimeLimit(0.3, str(tmp_path)))
    start = time.monotonic()
    with pytest.raises(TileError, match=r"took longer than 0\.3 seconds"):
        limited(None)
    assert 0.3 <= time.monotonic() - start < 10


def test_an_error_of_the_stage_stays_its_own(tmp_path):
    def fail(content):
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        LimitedStage(fail, "deblend", TimeLimit(60, str(tmp_path)))(None)


def test_code_that_keeps_all_threads_waiting_is_ended_with_its_process(tmp_path):
    command = [sys.executable, "-c", HANG, str(tmp_path)]
    start = time.monotonic()
    done = subprocess.run(command, env=deaths.environment(), capture_output=True, text=True)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert time.monotonic() - start < 50


def test_a_cell_that_hangs_is_failed_at_once_and_the_others_are_done(
    tiles, tmp_path, caplog, ray_local
):
    out = str(tmp_path / "out")
    cloudpickle.register_pickle_by_value(deaths)
    stages = stages_of(deaths.CONFIG)
    stages = replace(stages, deblend=partial(deaths.stuck, LOOPS, SLEEPS, stages.deblend))
    with caplog.at_level(logging.WARNING):
        summary = run_catalog(
            tiles,
            out,
            deaths.CONFIG,
            execution=Execution(cell_timeout=6.0),
            progress=False,
            stages=stages,
        )
    cloudpickle.unregister_pickle_by_value(deaths)
    failed = {entry.cell: entry.reason for entry in read_entries(out) if not entry.done}
    assert failed == dict.fromkeys((LOOPS, SLEEPS), "deblend: took longer than 6 seconds")
    assert summary.n_cells == deaths.N_CELLS
    assert "lost with their workers" not in caplog.text
    assert list(take_notes(out)) == []
    assert storage.list_files(out, ".overtime") == []
    healed = run_catalog(tiles, out, deaths.CONFIG, RunRequest(resume=True), progress=False)
    assert (healed.n_cells, healed.n_failed) == (deaths.N_CELLS, 0)
