"""Runs that are stopped: what is kept of an epoch in the middle, and what is said of it."""

import os
import signal
import threading
from pathlib import Path

import pytest
import torch

from raydeblend.errors import Stopped
from raydeblend.train.begun import begun_name, load_begun, save_begun
from raydeblend.train.epoch import EpochSoFar
from raydeblend.train.loop import _how_far, _in_thread
from raydeblend.train.networks import get_config, get_training
from raydeblend.train.run import Run
from raydeblend.train.state import save_state
from raydeblend.train.streams import RandomStream, ResumableStep


def make_step(seed: int) -> ResumableStep:
    """A step that draws from a stream and from torch's own generator."""
    generator = torch.Generator().manual_seed(seed)

    def step(number: int) -> dict[str, torch.Tensor]:
        return {"loss": torch.rand((), generator=generator) + torch.rand(())}

    return ResumableStep(step, RandomStream(generator))


@pytest.fixture
def begun(tmp_path: Path) -> tuple[Path, list[float]]:
    """A checkpoint of two workers after three steps, and what the next steps of each give."""
    torch.manual_seed(5)
    following = []
    for rank in range(2):
        step = make_step(rank)
        for number in range(3):
            step(number)
        save_begun(
            str(tmp_path / begun_name(rank)), 2, EpochSoFar(3, {"loss": 1.5}), 7.0 + rank, step
        )
        following.append(float(step(3)["loss"]))
    return tmp_path, following


@pytest.mark.parametrize("rank", [0, 1])
def test_each_worker_goes_on_where_it_was(begun: tuple[Path, list[float]], rank: int) -> None:
    folder, following = begun
    epoch = load_begun(str(folder), rank, 2)
    assert epoch is not None
    assert (epoch.so_far, epoch.seconds) == (EpochSoFar(3, {"loss": 1.5}), 7.0)
    step = make_step(99)
    epoch.restore(step)
    assert float(step(3)["loss"]) == following[rank]


def test_other_workers_go_on_with_other_images(begun: tuple[Path, list[float]]) -> None:
    folder, following = begun
    epoch = load_begun(str(folder), 0, 3)
    assert epoch is not None
    assert epoch.so_far.steps == 3
    step = make_step(0)
    epoch.restore(step)
    assert float(step(3)["loss"]) not in following


def test_a_file_that_is_cut_off_begins_the_epoch_again(begun: tuple[Path, list[float]]) -> None:
    folder, _ = begun
    path = folder / begun_name(0)
    path.write_bytes(path.read_bytes()[:100])
    assert load_begun(str(folder), 0, 2) is None
    assert load_begun(str(folder / "nowhere"), 0, 2) is None


def test_a_signal_ends_the_wait_for_a_training() -> None:
    def stop(number: int, _: object) -> None:
        raise Stopped(number)

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(Stopped):
            _in_thread(threading.Event().wait)
    finally:
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ZeroDivisionError):
        _in_thread(lambda: 1 / 0)


def test_a_stopped_run_says_what_is_kept(tmp_path: Path) -> None:
    config = get_config("rdn", "tiny", epochs=4)
    run = Run(config, str(tmp_path), ())
    assert _how_far(run) == (
        f"there is no checkpoint in {tmp_path} yet; go on with the same command and --resume"
    )
    folder = f"{run.checkpoints}/checkpoint_1"
    os.makedirs(folder)
    state = get_training(config).start(torch.device("cpu"))
    state.history.append({"loss": 1.0})
    save_state(state, f"{folder}/state.pt")
    assert _how_far(run).startswith("1 of 4 epochs are in the last checkpoint")
    save_begun(f"{folder}/{begun_name(0)}", 1, EpochSoFar(20), 1.0, make_step(0))
    assert "1 of 4 epochs and 20 steps of the next are in" in _how_far(run)
