"""How far a training is: what the first worker writes, and what the driver shows of it."""

import json
import logging
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from raydeblend.train import progress
from raydeblend.train.board import Board, label_columns
from raydeblend.train.networks import get_config
from raydeblend.train.progress import ProgressNote, Watch, follow, read_progress, write_history


def test_a_note_is_written_no_more_often_than_it_is_read(tmp_path: Path) -> None:
    note = ProgressNote(str(tmp_path))
    note.loss = 0.5
    note.write(2, 7)
    note.write(2, 8)
    assert read_progress(str(tmp_path)) == progress.Progress(2, 7, 0.5)
    (tmp_path / "progress.json").write_text("{")
    assert read_progress(str(tmp_path)) is None


def test_the_watch_tells_the_step_and_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    out = str(tmp_path)
    stale = ProgressNote(out)
    stale.write(0, 3)
    watch = Watch(out, epochs=4, steps=100)
    watch.look()
    assert watch.left() == "starting the workers"

    def at(seconds: float, epoch: int, steps: int) -> None:
        now[0] = seconds
        note = ProgressNote(out)
        note.loss = 0.25
        note.write(epoch, steps)
        watch.look()

    at(10.0, 0, 20)
    at(20.0, 1, 40)
    assert watch.where() == "epoch 2 of 4, step 40 of 100, loss 0.25"
    # 120 steps in 10 s; 260 are left.
    assert watch.left() == "12 steps/s, 0:00:22 left"


def test_lines_where_there_is_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "POLL_S", 0.01)
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.01)
    with caplog.at_level(logging.INFO), follow(str(tmp_path), 2, 5):
        (tmp_path / "progress.json").write_text(json.dumps({"epoch": 0, "steps": 4, "loss": 1.5}))
        wait_for(caplog, "epoch 1 of 2, step 4 of 5, loss 1.5; ")
        write_history(str(tmp_path / "history.json"), [{"loss": 1.25}])
        wait_for(caplog, "epoch 1 of 2: loss 1.25")


def wait_for(caplog: pytest.LogCaptureFixture, text: str) -> None:
    deadline = time.monotonic() + 30
    while not any(text in line for line in caplog.messages):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_board_has_steps_pictures_with_names_and_the_configuration(tmp_path: Path) -> None:
    config = get_config("rdn", "tiny")
    killed = Board(str(tmp_path), 0)
    killed.describe(config)
    for steps in (10, 20):
        killed.write_step({"loss": float(steps)}, steps)
    killed.write({"psnr": 30.0}, 1, 20, torch.zeros(3, 8, 16))
    resumed = Board(str(tmp_path), 10)
    resumed.write_step({"loss": 21.0}, 20)
    resumed.write({"psnr": 31.0}, 1, 20, torch.zeros(3, 8, 16), ("blend", "model"))
    seen = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in seen.Scalars("step/loss")] == [(10, 10.0), (20, 21.0)]
    assert [(e.step, e.value) for e in seen.Scalars("psnr")] == [(20, 31.0)]
    (picture,) = seen.Images("samples")
    # Two columns of 8 pixels, enlarged to 80, below 20 pixels with their names.
    assert (picture.height, picture.width) == (100, 160)
    content = seen.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"learning_rate" in content


def test_names_stand_above_their_columns() -> None:
    picture = torch.full((3, 40, 300), 0.5)
    labeled = label_columns(picture, ("a", "", "b"))
    assert torch.equal(labeled[:, 20:], picture)
    dark = (labeled[0, :20] < 0.4).any(0)
    # In the middle of the first and last third, nothing in the second.
    assert [bool(dark[i : i + 100].any()) for i in (0, 100, 200)] == [True, False, True]
    assert dark[:35].sum() == dark[65:100].sum() == 0
