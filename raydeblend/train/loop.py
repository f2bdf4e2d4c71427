"""Training on Ray Train: any number of workers, killed or not, and weights at the end.

`train` is the driver, `train_worker` what each worker runs.  Epochs and steps are in
`raydeblend.train.epoch` and `raydeblend.train.steps` and know nothing of Ray.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.fs
import ray.train
import ray.train.torch
import torch
from torch import Tensor, nn

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.networks.weights import Card, save_weights
from raydeblend.session import ray_session
from raydeblend.simulate.shards import IsolatedConfig, check_isolated, render_isolated
from raydeblend.survey import get_survey
from raydeblend.train.board import Board
from raydeblend.train.config import (
    ISOLATED_SIZE,
    TrainConfig,
    check_workers,
    config_hash,
    get_config,
    learning_rate_at,
)
from raydeblend.train.counting import Peel
from raydeblend.train.data import load_isolated, stream_seed, validation_blends, worker_share
from raydeblend.train.epoch import (
    TrainState,
    load_peel,
    load_state,
    run_epoch,
    save_state,
    start_state,
    step_loss,
)
from raydeblend.train.progress import follow, write_history
from raydeblend.train.steps import Scalars
from raydeblend.train.validation import VALIDATION_SEED, Examples, peel_examples, validate

log = logging.getLogger(__name__)

MANIFEST = "train.json"
HISTORY = "history.json"
STATE = "state.pt"
EXAMPLES = 6
"""Blends in the picture on the board."""
JOB_FOLDER = "/runtime_resources/working_dir_files/"
"""Where `ray job submit --working-dir` unpacks; a relative path of a job is below."""
MAX_FAILURES = 3
"""How often lost workers are replaced before a run gives up."""


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves behind.

    Attributes
    ----------
    weights
        Path of the exported weights; their card lies beside them.
    history
        Scores of each epoch: loss, learning rate, seconds, and those of the validation.
    """

    weights: str
    history: list[Scalars]


@dataclass(frozen=True)
class Run:
    """What every worker is told."""

    config: TrainConfig
    out: str
    shards: tuple[str, ...]


def train(
    network: str,
    out: str,
    preset: str = "paper",
    workers: int = 1,
    resume: bool = False,
    shards: str | None = None,
    address: str | None = None,
    **overrides: Any,
) -> TrainResult:
    """Train a network and export its weights into `out`.

    Parameters
    ----------
    network, preset, overrides
        See `raydeblend.train.config.get_config`.
    out
        Directory or ``s3://`` prefix for checkpoints, TensorBoard logs and weights.
    workers
        Ray Train workers: one GPU each where the cluster has as many, else CPUs.
    resume
        Go on with the run in `out` from its last checkpoint, if there is one.
    shards
        Where the isolated galaxy images are kept, by default in `out`; missing ones are
        rendered.
    address
        Of a Ray cluster; by default ``RAY_ADDRESS``, else this machine alone.

    Raises
    ------
    ConfigError
        If an argument is unusable, or `out` exists and is not to be resumed; before any work.
    """
    config = get_config(network, preset, **_with_absolute_paths(overrides))
    check_workers(config, workers)
    out, shards = _absolute(out), _absolute(shards or storage.join(out, "isolated"))
    _check_out(out, config, resume)
    isolated = _isolated(config, shards)
    for folder, images in isolated.items():
        check_isolated(folder, images)
    load_peel(config, torch.device("cpu"))
    with ray_session(address):
        _check_capacity(workers)
        _write_manifest(out, config)
        run = Run(config, out, _render(isolated, config.n_galaxies))
        with follow(storage.join(out, HISTORY), config.epochs):
            checkpoint = _fit(run, workers)
    state = start_state(config, torch.device("cpu"))
    _load_checkpoint(state, checkpoint)
    return TrainResult(_export(run, state), state.history)


def render_training(
    out: str, n: int, seed: int = 0, catalog: str | None = None, address: str | None = None
) -> list[str]:
    """Render `n` isolated galaxies of the paper's presets, for ``train(shards=out)``.

    Raises
    ------
    ConfigError
        If `catalog` is unusable or `out` holds images of other settings.
    """
    overrides = _with_absolute_paths({"n_galaxies": n, "seed": seed, "catalog": catalog})
    config = get_config("rdn", "paper", **overrides)
    isolated = _isolated(config, _absolute(out))
    for folder, images in isolated.items():
        check_isolated(folder, images)
    with ray_session(address):
        return list(_render(isolated, n))


def _with_absolute_paths(overrides: dict[str, Any]) -> dict[str, Any]:
    def is_path(name: str, value: Any) -> bool:
        named = name in ("catalog", "held_out") or str(value).endswith(".safetensors")
        return named and value is not None

    return {k: _absolute(value) if is_path(k, value) else value for k, value in overrides.items()}


def _absolute(path: str) -> str:
    """Return a path that means the same in every worker, whatever its working directory."""
    if storage.is_s3(path):
        return path
    path = os.path.abspath(path)
    if JOB_FOLDER in path:
        log.warning("%s is in Ray's copy of the working directory, which Ray may remove", path)
    return path


def _check_out(out: str, config: TrainConfig, resume: bool) -> None:
    path = storage.join(out, MANIFEST)
    storage.check_writable(out)
    if storage.list_files(out):
        if not resume:
            raise ConfigError(f"{out} is not empty; resume the run in it or name another place")
        if not storage.exists(path):
            raise ConfigError(f"{out} holds no training run to resume")
        if json.loads(storage.read_bytes(path))["hash"] != config_hash(config):
            raise ConfigError(f"{out} holds a run of other settings, see {path}")


def _write_manifest(out: str, config: TrainConfig) -> None:
    manifest = {"hash": config_hash(config)} | asdict(config)
    storage.write_bytes(storage.join(out, MANIFEST), json.dumps(manifest, indent=1).encode())


def _check_capacity(workers: int) -> None:
    cpus = int(ray.cluster_resources().get("CPU", 0))
    if workers > cpus:
        raise ConfigError(f"{workers} workers need as many CPUs; the cluster has {cpus}")


def _isolated(config: TrainConfig, root: str) -> dict[str, IsolatedConfig]:
    """Return the isolated images of each survey, by their directory."""
    return {
        storage.join(root, survey): IsolatedConfig(
            survey=survey,
            bands=config.bands,
            group=config.group,
            seed=config.seed + number,
            size=ISOLATED_SIZE,
            faint=config.faint,
            catalog=config.catalog,
            held_out=config.held_out,
        )
        for number, survey in enumerate(config.surveys)
    }


def _render(isolated: dict[str, IsolatedConfig], n_galaxies: int) -> tuple[str, ...]:
    share = -(-n_galaxies // len(isolated))
    shards = [render_isolated(folder, config, share) for folder, config in isolated.items()]
    return tuple(path for paths in shards for path in paths)


def _fit(run: Run, workers: int) -> ray.train.Checkpoint:
    trainer = ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config={"run": run},
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers, use_gpu=ray.cluster_resources().get("GPU", 0) >= workers
        ),
        run_config=ray.train.RunConfig(
            # By the same name and place Ray Train finds the checkpoints of a killed driver.
            name=f"{run.config.network}-{config_hash(run.config)}",
            **_checkpoint_storage(storage.join(run.out, "checkpoints")),
            failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
        ),
    )
    return trainer.fit().checkpoint


def _checkpoint_storage(path: str) -> dict[str, Any]:
    if not storage.is_s3(path):
        return {"storage_path": path}
    # pyarrow's own S3 leaves directory markers that some servers cannot delete.
    handler = pyarrow.fs.FSSpecHandler(storage.make_filesystem(path))
    return {
        "storage_path": path.removeprefix(storage.S3_PREFIX),
        "storage_filesystem": pyarrow.fs.PyFileSystem(handler),
    }


def _load_checkpoint(state: TrainState, checkpoint: ray.train.Checkpoint) -> None:
    with checkpoint.as_directory() as folder:
        load_state(state, os.path.join(folder, STATE))


def _export(run: Run, state: TrainState) -> str:
    config = run.config
    scales = [get_survey(survey).pixel_scale for survey in config.surveys]
    card = Card(
        network=config.network,
        architecture=asdict(config.model),
        bands=config.bands,
        pixel_scale=(min(scales), max(scales)),
        scaling=config.scaling,
        training=asdict(config) | {"data": _describe_data(config), "epochs_done": state.epoch},
        scores={"galaxies kept for validation": state.history[-1]},
        commit=_commit(),
    )
    return save_weights(run.out, config.network, state.final, card)


def _describe_data(config: TrainConfig) -> str:
    galaxies = os.path.basename(config.catalog) if config.catalog else "drawn galaxies"
    surveys = " and ".join(config.surveys)
    return f"{surveys}: {config.n_galaxies} images of {galaxies}, i < {config.faint}"


def _commit() -> str:
    """Return the commit of this checkout; empty for an installed package."""
    folder = os.path.dirname(os.path.abspath(__file__))
    if shutil.which("git") is None:
        return ""
    command = ["git", "-C", folder, "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def train_worker(arguments: dict[str, Any]) -> None:
    """Run the epochs that are left, as one worker of the group."""
    run: Run = arguments["run"]
    config, context = run.config, ray.train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    # The faint wings of galaxies are denormal numbers, with which CPUs are many times slower.
    torch.set_flush_denormal(True)
    state = start_state(config, device)
    if ray.train.get_checkpoint() is not None:
        _load_checkpoint(state, ray.train.get_checkpoint())
    network = _parallel(state.network, device, world)
    isolated = load_isolated(worker_share(run.shards, rank, world), config.bands).to(device)
    peel = load_peel(config, device)
    recorder = Recorder(run, device, state.epoch, peel) if rank == 0 else None
    for epoch in range(state.epoch, config.epochs):
        began = time.monotonic()
        seed = stream_seed(config.seed, epoch, rank)
        torch.manual_seed(seed)  # of dropout
        loss = run_epoch(
            network, state, step_loss(config, isolated, config.batch // world, seed, peel), config
        )
        scores = {"loss": _mean_over_workers(loss), "seconds": time.monotonic() - began}
        state.history.append(recorder.record(state, scores) if recorder else scores)
        if (epoch + 1) % config.checkpoint_every == 0 or epoch + 1 == config.epochs:
            _checkpoint(state, write=rank == 0)


def _parallel(network: nn.Module, device: torch.device, world: int) -> nn.Module:
    if world > 1 and device.type == "cuda":
        # Statistics over the whole batch, not over a worker's part; CPUs have no such layer.
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    wrapped: nn.Module = ray.train.torch.prepare_model(network)
    return wrapped


def _mean_over_workers(value: Tensor) -> float:
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(value)
        value = value / torch.distributed.get_world_size()
    return float(value)


def _checkpoint(state: TrainState, write: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        if write:
            save_state(state, os.path.join(folder, STATE))
        # All workers wait here for each other.
        ray.train.report(
            dict(state.history[-1]),
            checkpoint=ray.train.Checkpoint.from_directory(folder) if write else None,
        )


class Recorder:
    """Validates after each epoch and writes down how it went; the first worker has one."""

    def __init__(self, run: Run, device: torch.device, first_epoch: int, peel: Peel | None) -> None:
        self._config, self._out, self._peel = run.config, run.out, peel
        held_out = load_isolated(run.shards, run.config.bands, validation=True)
        self._isolated = held_out.to(device)
        self._board = Board(run.out, first_epoch)

    def record(self, state: TrainState, scores: Scalars) -> Scalars:
        """Add the validation's scores to those of the epoch; log them all."""
        config, network = self._config, state.final
        rate = learning_rate_at(config, state.epoch * config.steps)
        scores = (
            scores | {"learning_rate": rate} | validate(network, config, self._isolated, self._peel)
        )
        self._board.write(scores, state.epoch + 1, self._examples(network))
        write_history(storage.join(self._out, HISTORY), [*state.history, scores])
        return scores

    def _examples(self, network: nn.Module) -> Examples | None:
        config = self._config
        if config.network != "rdn":
            return None
        blends = validation_blends(self._isolated, config.recipe, EXAMPLES, VALIDATION_SEED)
        return peel_examples(network, config, next(blends))
