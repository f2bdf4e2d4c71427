"""What the ledger says of cells that died, failed or met a mistake; no Ray is started."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import survey_sky as sky
from ray.exceptions import ObjectLostError, RayTaskError, UserCodeException, WorkerCrashedError

from raydeblend.config import CatalogConfig
from raydeblend.fits import find_tiles
from raydeblend.pipeline.cell_state import CellState, run_stage_safely
from raydeblend.pipeline.entries import entry_path, read_entry, write_entry
from raydeblend.pipeline.lost_blocks import BLOCK_LOG, lost_block_errors
from raydeblend.pipeline.outcome import give_up, write_cell
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.shards import shard_path
from raydeblend.pipeline.stages import stages_of

CONFIG = CatalogConfig(bands=sky.BANDS, deblender="sep", photometry="mixture")
HASHES = {"weights_hash": "w", "config_hash": "c"}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    sky.write_tile(folder, "t", size=120)
    (header,), _ = find_tiles(str(folder), sky.BANDS)
    return plan_survey([header], 120, 0).task(0)


@pytest.fixture(scope="module")
def work(task):
    stages = stages_of(CONFIG)
    work = run_stage_safely(CellState(task), "detect", stages.detect)
    work = run_stage_safely(work, "deblend", stages.deblend())
    return run_stage_safely(work, "measure", stages.measure)


def paths(out, task):
    key = (task.cell.tile.name, task.cell.name)
    return Path(shard_path(out, *key)), Path(entry_path(out, *key))


def test_a_cell_given_up_is_failed_and_leaves_no_shard(tmp_path, task, work):
    shard, entry = paths(str(tmp_path), task)
    write_cell(work, str(tmp_path), **HASHES)
    entry.unlink()  # its worker died between the two
    said = give_up(task, str(tmp_path), "its worker died 4 times", **HASHES)
    assert (said.status, said.reason) == ("failed", "its worker died 4 times")
    assert read_entry(str(entry)) == said
    assert not shard.exists()


def test_a_cell_whose_last_worker_died_after_its_entry_is_done(tmp_path, task, work):
    shard, entry = paths(str(tmp_path), task)
    done = write_cell(work, str(tmp_path), **HASHES)
    assert give_up(task, str(tmp_path), "died", **HASHES) == done
    assert shard.exists()
    # An entry of other weights is of another run.
    write_entry(str(tmp_path), replace(done, weights_hash="other"))
    assert give_up(task, str(tmp_path), "died", **HASHES).status == "failed"
    assert not read_entry(str(entry)).done


def test_a_second_attempt_writes_the_same_bytes(tmp_path, task, work):
    shard, _ = paths(str(tmp_path), task)
    write_cell(work, str(tmp_path), **HASHES)
    first = shard.read_bytes()
    shard.unlink()
    stages = stages_of(CONFIG)
    again = run_stage_safely(CellState(task), "detect", stages.detect)
    again = run_stage_safely(again, "deblend", stages.deblend())
    write_cell(run_stage_safely(again, "measure", stages.measure), str(tmp_path), **HASHES)
    assert shard.read_bytes() == first
    assert len(first) > 1000


def test_a_mistake_in_the_code_fails_the_cell_and_says_where(tmp_path, task):
    def stage(_):
        return np.zeros(3)[7]

    work = run_stage_safely(CellState(task), "deblend", stage)
    assert run_stage_safely(work, "measure", stage) is work
    entry = write_cell(work, str(tmp_path), **HASHES)
    place = f"test_deaths_record.py:{stage.__code__.co_firstlineno + 1}"
    assert entry.reason.startswith(f"deblend: mistake in the code, IndexError at {place}: index 7")
    assert not entry.done


def test_no_reason_holds_a_key_or_an_address(task, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://planted.host:9000")

    def stage(_):
        raise OSError(
            "PUT http://planted.host:9000/tiles with planted-secret: planted.host is away"
        )

    assert "planted" not in run_stage_safely(CellState(task), "write", stage).error

    def mistaken(_):
        raise KeyError("planted-secret")

    assert "planted" not in run_stage_safely(CellState(task), "write", mistaken).error


def wrapped(cause):
    """An error as Ray gives it to the driver when a worker has raised `cause`."""
    user = UserCodeException("UDF failed")
    user.__cause__ = cause
    return RayTaskError("step", "traceback", user)


@pytest.mark.parametrize(
    ("error", "is_fault"),
    [
        (WorkerCrashedError(), False),
        (wrapped(ObjectLostError("0" * 56, "", "")), False),
        (wrapped(ModuleNotFoundError("no package")), True),
        (RayTaskError("step", "traceback", ModuleNotFoundError("no package")), True),
    ],
)
def test_a_death_is_told_from_what_concerns_all_cells(error, is_fault, caplog):
    with caplog.at_level(logging.ERROR), lost_block_errors() as errors:
        BLOCK_LOG.error("An exception was raised from a task", exc_info=error)
    assert (errors.fault is error) == is_fault
    assert "An exception" not in caplog.text
    assert not BLOCK_LOG.filters
