"""One worker of a training, on Ray Train.

Epochs and steps are in `raydeblend.train.epoch` and `raydeblend.train.steps` and know nothing of
Ray.
"""

from __future__ import annotations

import os
import tempfile
import time
from typing import Any

import ray.train
import ray.train.torch
import torch
from torch import nn

from raydeblend import storage
from raydeblend.errors import TrainingError
from raydeblend.train.board import Board
from raydeblend.train.checkpoints import STATE, load_newest
from raydeblend.train.config import learning_rate_at
from raydeblend.train.data import stream_seed
from raydeblend.train.epoch import run_epoch, training_mode
from raydeblend.train.networks import get_training
from raydeblend.train.progress import HISTORY, write_history
from raydeblend.train.run import Run
from raydeblend.train.state import Scalars, TrainState, keep_best, save_state
from raydeblend.train.stopping import STOPPED, check_health, write_stop


def train_worker(arguments: dict[str, Any]) -> None:
    """Run the epochs that are left, as one worker of the group."""
    run: Run = arguments["run"]
    config, context = run.config, ray.train.get_context()
    device = ray.train.torch.get_device()
    # The faint wings of galaxies are denormal numbers, with which CPUs are many times slower.
    torch.set_flush_denormal(True)
    state = get_training(config).start(device)
    load_newest(state, run.checkpoints)
    worker = Worker(run, state, device, context.get_world_rank(), context.get_world_size())
    try:
        for epoch in range(state.epoch, config.epochs):
            worker.run_epoch()
            if (epoch + 1) % config.checkpoint_every == 0 or epoch + 1 == config.epochs:
                _checkpoint(state, write=worker.rank == 0)
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


def _checkpoint(state: TrainState, write: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if write:
            save_state(state, os.path.join(folder, STATE))
        # All workers wait here for each other.
        ray.train.report(
            dict(state.history[-1]),
            checkpoint=ray.train.Checkpoint.from_directory(folder) if write else None,
        )


class Worker:
    """One worker of the group; the first one validates and writes down how it went."""

    def __init__(
        self, run: Run, state: TrainState, device: torch.device, rank: int, world: int
    ) -> None:
        config = run.config
        self.rank, self._world, self._state, self._config = rank, world, state, config
        self._training = get_training(config)
        self._networks = {
            name: _parallel(network, device, world) for name, network in state.networks.items()
        }
        self._data = self._training.load(run.paths, rank, world, device)
        self._recorder = Recorder(run, device, state.epoch) if rank == 0 else None

    def run_epoch(self) -> None:
        """Train one epoch and add its scores to the history.

        Raises
        ------
        TrainingError
            On all workers alike.
        """
        config, state, began = self._config, self._state, time.monotonic()
        seed = stream_seed(config.seed, state.epoch, self.rank)
        # Whatever draws from torch's own generator, as dropout does, depends on epoch and rank
        # alone: a resumed run goes on as the unbroken one did.
        torch.manual_seed(seed)
        n = config.batch // self._world
        training_mode(state.networks)
        step = self._training.steps(state, self._networks, self._data, n, seed)
        scores = run_epoch(step, state.epoch * config.steps, config.steps)
        scores["seconds"] = time.monotonic() - began
        if self._recorder:
            scores = self._recorder.record(state, scores)
        check_health(_from_first_worker(scores), state.epoch + 1, config.grace)
        state.history.append(scores)
        if self._recorder:
            keep_best(state, self._training.exported, self._training.best)
            self._recorder.write(state)


def _from_first_worker(scores: Scalars) -> Scalars:
    """Return what the first worker has, so that all stop or none."""
    if not torch.distributed.is_initialized():
        return scores
    box = [scores]
    torch.distributed.broadcast_object_list(box)
    return box[0]


class Recorder:
    """Validates after each epoch and writes down how it went; the first worker has one."""

    def __init__(self, run: Run, device: torch.device, first_epoch: int) -> None:
        self._config, self._out = run.config, run.out
        self._training = get_training(run.config)
        self._held_out = self._training.load_validation(run.paths, device)
        self._board = Board(run.out, first_epoch)

    def record(self, state: TrainState, scores: Scalars) -> Scalars:
        """Add the validation's scores to those of the epoch; show them, and samples."""
        config, epoch = self._config, state.epoch + 1
        scores = scores | {"learning_rate": learning_rate_at(config, epoch * config.steps)}
        scores |= self._training.validate(state, self._held_out)
        self._board.write(scores, epoch, self._training.picture(state, self._held_out))
        return scores

    def write(self, state: TrainState) -> None:
        """Write the history, in which the driver looks how far the run is."""
        write_history(storage.join(self._out, HISTORY), state.history)
