"""A run survives the death of a worker and of an actor; a poisonous cell does not stop it."""

import logging
import os
import sys
import threading
from dataclasses import replace

import deaths
import numpy as np
import pytest
import survey_sky as sky
from in_process import catalogs_in_process
from ray import cloudpickle

from raydeblend import storage
from raydeblend.catalog import read_catalog
from raydeblend.pipeline import rounds
from raydeblend.pipeline.execution import Execution
from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.preparation import RunRequest
from raydeblend.pipeline.stages import stages_of
from raydeblend.pipeline.survey import run_catalog
from raydeblend.pipeline.verify import verify_catalog

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")

CELL = "y00105-00210_x00105-00210"
"""A cell in the middle, with sources."""


@pytest.fixture(scope="module", autouse=True)
def _pickled_by_value():
    cloudpickle.register_pickle_by_value(deaths)
    yield
    cloudpickle.unregister_pickle_by_value(deaths)


def kill_at(moments, marks, rng, killed):
    """Kill a process of a kind each time a stage has begun a number of times."""
    for stage, n, kind in moments:
        deaths.wait_for(lambda stage=stage, n=n: deaths.begun(marks, stage) >= n, 240)
        deaths.kill_busy(os.getpid(), kind, rng)
        killed.append(kind)


def test_workers_and_actors_may_die_at_any_moment(undisturbed, tiles, tmp_path, caplog, ray_local):
    out, rng = str(tmp_path / "out"), np.random.default_rng(11)
    at = rng.integers(1, 8, 2)
    moments = [("deblend", int(at[0]), "actor"), ("measure", int(at[1]), "worker")]
    stages = deaths.watched(deaths.CONFIG, tmp_path, seconds=0.15)
    killed = []
    killer = threading.Thread(target=kill_at, args=(moments, tmp_path, rng, killed))
    killer.start()
    with caplog.at_level(logging.WARNING):
        summary = run_catalog(tiles, out, deaths.CONFIG, progress=False, stages=stages)
    killer.join(timeout=60)
    assert killed == ["actor", "worker"]
    assert "were lost with their workers (try 1 of 4)" in caplog.text
    assert (summary.n_cells, summary.n_failed) == (deaths.N_CELLS, 0)
    assert verify_catalog(out) == []
    assert read_catalog(out).equals(read_catalog(undisturbed))
    assert deaths.shards(out) == deaths.shards(undisturbed)


def test_a_cell_that_always_kills_its_worker_is_failed_and_healed_by_resume(
    undisturbed, tiles, tmp_path, ray_local, monkeypatch
):
    # Each death costs the start of a worker.
    monkeypatch.setattr(rounds, "TRIES", 2)
    out, marks = str(tmp_path / "out"), tmp_path
    poison = {
        "detect": "y00000-00105_x00000-00105",
        "deblend": CELL,
        "measure": "y00315-00420_x00210-00315",
    }
    stages = deaths.watched(deaths.CONFIG, marks, deadly=poison)
    summary = run_catalog(tiles, out, deaths.CONFIG, progress=False, stages=stages)
    assert (summary.n_cells, summary.n_failed) == (deaths.N_CELLS, 3)
    failed = {entry.cell: entry.reason for entry in read_entries(out) if not entry.done}
    assert failed == dict.fromkeys(poison.values(), "its worker died 2 times")
    for name, cell in poison.items():
        assert deaths.begun(marks, name, cell) == 2
    assert all("its worker died" in said for said in verify_catalog(out))
    assert len(verify_catalog(out)) == 3

    before = {path: os.stat(path).st_mtime_ns for path in storage.list_files(summary.catalog)}
    healed = run_catalog(tiles, out, deaths.CONFIG, RunRequest(resume=True), progress=False)
    assert (healed.n_cells, healed.n_failed) == (deaths.N_CELLS, 0)
    assert {path: os.stat(path).st_mtime_ns for path in before} == before
    assert deaths.shards(out) == deaths.shards(undisturbed)


def test_a_cell_that_hangs_is_failed_with_its_reason_and_healed_by_resume(
    undisturbed, tiles, tmp_path, ray_local
):
    out, until = str(tmp_path / "out"), tmp_path / "go on"
    stages = stages_of(deaths.CONFIG)
    hanging = replace(stages, detect=deaths.Hanging(stages.detect, CELL, str(until)))
    summary = run_catalog(
        tiles, out, deaths.CONFIG, execution=Execution(patience=8.0), progress=False, stages=hanging
    )
    until.touch()
    failed = {entry.cell: entry.reason for entry in read_entries(out) if not entry.done}
    assert failed[CELL] == "nothing moved for 8 seconds"
    assert (summary.n_cells, summary.n_failed) == (deaths.N_CELLS, len(failed))
    healed = run_catalog(tiles, out, deaths.CONFIG, RunRequest(resume=True), progress=False)
    assert (healed.n_cells, healed.n_failed) == (deaths.N_CELLS, 0)
    assert deaths.shards(out) == deaths.shards(undisturbed)


def test_a_tile_whose_name_is_a_path_stays_inside_the_output(tiles, tmp_path):
    manifest = tmp_path / "manifest.csv"
    name = "../../x"
    rows = [f"{name},{band},whole_{band}.fits\n" for band in sky.BANDS]
    manifest.write_text("tile,band,image\n" + "".join(rows))
    out = tmp_path / "deep" / "out"
    config = replace(deaths.CONFIG, manifest=str(manifest), cell_size=420)
    with catalogs_in_process():
        summary = run_catalog(tiles, str(out), config, progress=False)
    assert (summary.n_cells, summary.n_failed) == (1, 0)
    inside = {path for path in tmp_path.rglob("*") if path.is_file()} - {manifest}
    assert len(inside) >= 3
    assert all(out in path.parents for path in inside)
    assert verify_catalog(str(out)) == []
    assert set(read_catalog(str(out))["tile"].to_pylist()) == {name}
