"""Damaged checkpoints: an older one that is whole is gone on from."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from raydeblend.errors import ConfigError
from raydeblend.train.checkpoints import SNAPSHOT, load_newest, mend_snapshot
from raydeblend.train.state import TrainState, save_state, start_state


def make_state(epochs: int = 0) -> TrainState:
    networks = {"net": nn.Linear(2, 2)}
    device = torch.device("cpu")
    state = start_state(networks, lambda net: torch.optim.SGD(net.parameters(), 0.1), device)
    state.history += [{"loss": 1.0}] * epochs
    return state


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Checkpoints of three epochs, as Ray Train lays them down."""
    for epoch in (1, 2, 3):
        folder = tmp_path / f"checkpoint_2026-11-29_10-00-0{epoch}.000000"
        folder.mkdir()
        save_state(make_state(epoch), str(folder / "state.pt"))
    return tmp_path


def files(checkpoints: Path) -> list[Path]:
    return sorted(checkpoints.glob("*/state.pt"))


def test_the_newest_is_taken_and_none_is_none(checkpoints: Path, tmp_path: Path) -> None:
    state = make_state()
    assert load_newest(state, str(checkpoints))
    assert state.epoch == 3
    assert not load_newest(state, str(tmp_path / "nothing"))


@pytest.mark.parametrize("part", [0.0, 0.001, 0.01, 0.3, 0.5, 0.9, 0.99, 0.999])
def test_a_newest_one_that_is_cut_off_is_passed_over(
    checkpoints: Path, part: float, caplog: pytest.LogCaptureFixture
) -> None:
    newest = files(checkpoints)[-1]
    whole = newest.read_bytes()
    newest.write_bytes(whole[: int(part * len(whole))])
    state = make_state()
    assert load_newest(state, str(checkpoints))
    assert state.epoch == 2
    assert str(newest) in caplog.text


@pytest.mark.parametrize(
    "content", [b"text of some kind", b"\x80\x04.", b"PK\x03\x04", b"\x00" * 99]
)
def test_other_content_is_passed_over(checkpoints: Path, content: bytes) -> None:
    for path in files(checkpoints)[1:]:
        path.write_bytes(content)
    state = make_state()
    assert load_newest(state, str(checkpoints))
    assert state.epoch == 1


def test_none_that_is_whole_is_said(checkpoints: Path) -> None:
    for path in files(checkpoints):
        path.write_bytes(b"")
    with pytest.raises(ConfigError, match=r"none of the 3 checkpoints in .* is whole"):
        load_newest(make_state(), str(checkpoints))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"checkpoint_results": [{}]}'])
def test_a_damaged_list_of_ray_is_made_again(checkpoints: Path, content: bytes) -> None:
    path = checkpoints / SNAPSHOT
    path.write_bytes(content)
    mend_snapshot(str(checkpoints))
    assert not path.exists()


def test_a_list_of_ray_is_kept_while_its_checkpoints_are_there(checkpoints: Path) -> None:
    path, folders = checkpoints / SNAPSHOT, sorted(checkpoints.glob("checkpoint_*"))
    kept = [{"checkpoint_dir_name": folder.name, "metrics": []} for folder in folders]
    path.write_text(json.dumps({"checkpoint_results": kept}))
    mend_snapshot(str(checkpoints))
    assert path.exists()
    shutil.rmtree(folders[-1])
    mend_snapshot(str(checkpoints))
    assert not path.exists()
