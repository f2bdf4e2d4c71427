"""One worker of a training, on Ray Train.

Epochs and steps are in `raydeblend.train.epoch` and `raydeblend.train.steps` and know nothing of
Ray.
"""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any, TypeVar

import ray.train
import ray.train.torch
import torch
from torch import nn

from raydeblend import storage
from raydeblend.errors import TrainingError
from raydeblend.train.begun import BegunEpoch, begun_name, load_begun, save_begun
from raydeblend.train.board import Board
from raydeblend.train.checkpoints import STATE, load_newest
from raydeblend.train.config import learning_rate_at
from raydeblend.train.data import stream_seed
from raydeblend.train.epoch import EpochSoFar, run_epoch, training_mode
from raydeblend.train.networks import get_training
from raydeblend.train.progress import HISTORY, ProgressNote, write_history
from raydeblend.train.run import Run
from raydeblend.train.state import Scalars, TrainState, keep_best, save_state
from raydeblend.train.stopping import STOPPED, check_health, write_stop
from raydeblend.train.streams import ResumableStep

V = TypeVar("V")


def train_worker(arguments: dict[str, Any]) -> None:
    """Run the epochs that are left, as one worker of the group."""
    run: Run = arguments["run"]
    config, context = run.config, ray.train.get_context()
    device = ray.train.torch.get_device()
    # The faint wings of galaxies are denormal numbers, with which CPUs are many times slower.
    torch.set_flush_denormal(True)
    state = get_training(config).start(device)
    newest = load_newest(state, run.checkpoints)
    worker = Worker(run, state, device, context.get_world_rank(), context.get_world_size(), newest)
    try:
        for epoch in range(state.epoch, config.epochs):
            worker.run_epoch()
            if (epoch + 1) % config.checkpoint_every == 0 or epoch + 1 == config.epochs:
                worker.checkpoint()
    except TrainingError as stop:
        # All workers stop here together.  Were it a failure, Ray Train would try again.
        if worker.rank == 0:
            write_stop(storage.join(run.out, STOPPED), stop)


def _parallel(network: nn.Module, device: torch.device, world: int) -> nn.Module:
    if world > 1 and device.type == "cuda":
        # Statistics over the whole batch, not over a worker's part; CPUs have no such layer.
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    if not any(parameter.requires_grad for parameter in network.parameters()):
        return network
    # Batch norm's buffers play no part in training; sent around between two passes through one
    # network, they would spoil the first one's gradient.
    options = {"broadcast_buffers": False}
    wrapped: nn.Module = ray.train.torch.prepare_model(network, parallel_strategy_kwargs=options)
    return wrapped


class Worker:
    """One worker of the group; the first one validates and writes down how it went."""

    def __init__(
        self,
        run: Run,
        state: TrainState,
        device: torch.device,
        rank: int,
        world: int,
        newest: str | None,
    ) -> None:
        config = run.config
        self.rank, self._world, self._state, self._config = rank, world, state, config
        self._training = get_training(config)
        self._networks = {
            name: _parallel(network, device, world) for name, network in state.networks.items()
        }
        self._data = self._training.load(run.paths, rank, world, device)
        self._begun = None if newest is None else load_begun(newest, rank, world)
        done = 0 if self._begun is None else self._begun.so_far.steps
        self._recorder = Recorder(run, state, done, device) if rank == 0 else None
        self._saved = time.monotonic()

    def run_epoch(self) -> None:
        """Train one epoch, or what is left of it, and add its scores to the history.

        Raises
        ------
        TrainingError
            On all workers alike.
        """
        config, state = self._config, self._state
        begun, self._begun = self._begun or BegunEpoch(EpochSoFar(), 0.0), None
        self._since = time.monotonic() - begun.seconds
        fresh = begun.so_far.steps if begun.random is None else 0
        seed = stream_seed(config.seed, state.epoch, self.rank, fresh)
        # Whatever draws from torch's own generator, as dropout does, depends on epoch and rank
        # alone: a resumed run goes on as the unbroken one did.
        torch.manual_seed(seed)
        n = config.batch // self._world
        training_mode(state.networks)
        self._step = self._training.steps(state, self._networks, self._data, n, seed)
        begun.restore(self._step)
        first = state.epoch * config.steps
        scores = run_epoch(self._step, first, config.steps, begun.so_far, self)
        scores["seconds"] = time.monotonic() - self._since
        if self._recorder:
            scores = self._recorder.record(state, scores)
        check_health(_from_first_worker(scores), state.epoch + 1, config.grace)
        state.history.append(scores)
        if self._recorder:
            keep_best(state, self._training.exported, self._training.best)
            self._recorder.write(state)

    def stepped(self, steps: int) -> None:
        """Tell the driver."""
        if self._recorder:
            self._recorder.stepped(self._state.epoch, steps)

    def checked(self, so_far: EpochSoFar, last: Scalars) -> None:
        """Write down the last step; make a checkpoint if the last one is long ago."""
        if self._recorder:
            self._recorder.checked(self._state.epoch, so_far.steps, last)
        if so_far.steps == self._config.steps or not isinstance(self._step, ResumableStep):
            return
        long_ago = time.monotonic() - self._saved > self._config.checkpoint_seconds
        if _from_first_worker(long_ago):
            self.checkpoint(so_far)

    def checkpoint(self, so_far: EpochSoFar | None = None) -> None:
        """Make a checkpoint; `so_far` is what has been done of an epoch that has not ended."""
        with tempfile.TemporaryDirectory() as folder:
            if self.rank == 0:
                save_state(self._state, os.path.join(folder, STATE))
            if so_far is not None and isinstance(self._step, ResumableStep):
                path = os.path.join(folder, begun_name(self.rank))
                seconds = time.monotonic() - self._since
                save_begun(path, self._world, so_far, seconds, self._step)
            # All workers wait here for each other.
            ray.train.report(
                {"epochs": self._state.epoch},
                checkpoint=ray.train.Checkpoint.from_directory(folder)
                if os.listdir(folder)
                else None,
            )
        self._saved = time.monotonic()


def _from_first_worker(value: V) -> V:
    """Return what the first worker has, so that all do the same."""
    if not torch.distributed.is_initialized():
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box)
    return box[0]


class Recorder:
    """Validates after each epoch and writes down how it goes; the first worker has one."""

    def __init__(self, run: Run, state: TrainState, done: int, device: torch.device) -> None:
        config = self._config = run.config
        self._out = run.out
        self._training = get_training(config)
        self._held_out = self._training.load_validation(run.paths, device)
        self._board = Board(run.out, state.epoch * config.steps + done)
        self._board.describe(config)
        self._note = ProgressNote(run.out)

    def stepped(self, epoch: int, steps: int) -> None:
        """Tell the driver of a step."""
        self._note.write(epoch, steps)

    def checked(self, epoch: int, steps: int, last: Scalars) -> None:
        """Show the scalars of the last of some steps."""
        self._note.loss = last.get("loss")
        self._board.write_step(last, epoch * self._config.steps + steps)

    def record(self, state: TrainState, scores: Scalars) -> Scalars:
        """Add the validation's scores to those of the epoch; show them, and samples."""
        config, epoch = self._config, state.epoch + 1
        steps = epoch * config.steps
        scores = scores | {"learning_rate": learning_rate_at(config, steps)}
        scores |= self._training.validate(state, self._held_out)
        picture = self._training.picture(state, self._held_out)
        self._board.write(scores, epoch, steps, picture, self._training.columns)
        return scores

    def write(self, state: TrainState) -> None:
        """Write the history, in which the driver looks how far the run is."""
        write_history(storage.join(self._out, HISTORY), state.history)
