"""A function on two workers that talk to each other, with and without the loop of a training."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train
import ray.train.torch
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from raydeblend.simulate import shards
from raydeblend.train import loop
from raydeblend.train.run import Run
from raydeblend.train.worker import train_worker

TIMEOUT_S = 300


def on_two_workers(work: Callable[..., None], *arguments: object) -> None:
    """Call `work(rank, *arguments)` here as worker 0, and in another process as worker 1."""
    other = torch.multiprocessing.get_context("spawn").Process(target=work, args=(1, *arguments))
    other.start()
    work(0, *arguments)
    other.join()
    assert other.exitcode == 0


@contextmanager
def other_process() -> Iterator[Pool]:
    """A process that serves as the second worker of all trainings of `without_ray`."""
    with torch.multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool


@contextmanager
def without_ray(other: Pool) -> Iterator[None]:
    """Let `train` do its epochs on two workers, this process and the `other` one, meanwhile.

    Ray Train would start three processes for each training.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module in (loop, shards):
            patch.setattr(module, "ray_session", lambda *_: nullcontext())
        patch.setattr(loop, "_check_capacity", lambda workers: None)
        patch.setattr(loop, "claim_gpus", lambda *_: 0)
        patch.setattr(loop, "_train_on_ray", partial(_train_here, other))
        patch.setattr(shards, "shared_folder", lambda *_: nullcontext())
        patch.setattr(shards, "_run", _run)
        yield


def _run(items: list[shards.Item], task: Callable[[shards.Item], shards.Item]) -> None:
    for item in items:
        task(item)


def _train_here(pool: Pool, run: Run, workers: int, use_gpu: bool) -> None:
    assert (workers, use_gpu) == (2, False)
    with tempfile.TemporaryDirectory() as folder:
        other = pool.apply_async(_train, (1, run, folder))
        _train(0, run, folder)
        other.get(TIMEOUT_S)


def _train(rank: int, run: Run, folder: str) -> None:
    """Be one of the two workers: what Ray Train tells and does for one is replaced."""
    torch.distributed.init_process_group(
        "gloo",
        f"file://{folder}/rendezvous",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=TIMEOUT_S),
    )
    context = SimpleNamespace(get_world_rank=lambda: rank, get_world_size=lambda: 2)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ray.train, "get_context", lambda: context)
            patch.setattr(ray.train, "report", partial(_report, Path(run.checkpoints)))
            patch.setattr(ray.train.torch, "get_device", lambda: torch.device("cpu"))
            patch.setattr(ray.train.torch, "prepare_model", _parallel)
            train_worker({"run": run})
    finally:
        torch.set_flush_denormal(False)
        torch.distributed.destroy_process_group()


def _parallel(network: nn.Module, parallel_strategy_kwargs: dict[str, Any]) -> nn.Module:
    return DistributedDataParallel(network, **parallel_strategy_kwargs)


def _report(
    folder: Path, metrics: dict[str, float], checkpoint: ray.train.Checkpoint | None = None
) -> None:
    """Keep the checkpoint, if there is one; all workers wait for it."""
    assert metrics
    number = len(list(folder.glob("checkpoint_*")))
    torch.distributed.barrier()
    if checkpoint is not None:
        target = folder / f"checkpoint_{number:04d}"
        shutil.copytree(checkpoint.path, target, dirs_exist_ok=True)
    torch.distributed.barrier()
