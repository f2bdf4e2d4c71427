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

import ray.train
import ray.train.torch
import torch
from torch import nn

from raydeblend import storage
from raydeblend.errors import ConfigError, TrainingError
from raydeblend.networks.weights import Card, build_network, save_weights
from raydeblend.session import claim_gpus, ray_session
from raydeblend.survey import survey_key
from raydeblend.train.board import Board
from raydeblend.train.checkpoints import STATE, load_newest, mend_snapshot, storage_of
from raydeblend.train.config import RunConfig, check_workers, config_hash, learning_rate_at
from raydeblend.train.data import stream_seed
from raydeblend.train.epoch import run_epoch, training_mode
from raydeblend.train.networks import get_config, get_training
from raydeblend.train.progress import follow, write_history
from raydeblend.train.state import (
    Scalars,
    TrainState,
    best_epoch,
    keep_best,
    save_state,
)
from raydeblend.train.stopping import check_health, read_stop, write_stop

log = logging.getLogger(__name__)

MANIFEST = "train.json"
HISTORY = "history.json"
STOPPED = "stopped.json"
PATH_OPTIONS = ("catalog", "held_out", "data", "vgg19_weights")
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
    """The run that every worker gets from the driver."""

    config: RunConfig
    out: str
    paths: tuple[str, ...]

    @property
    def checkpoints(self) -> str:
        """Where the checkpoints of this configuration are."""
        name = f"{self.config.network}-{config_hash(self.config)}"
        return storage.join(self.out, "checkpoints", name)


def train(
    network: str,
    out: str,
    preset: str = "small",
    workers: int = 1,
    resume: bool = False,
    shards: str | None = None,
    address: str | None = None,
    gpus: int | None = None,
    min_workers: int | None = None,
    **overrides: Any,
) -> TrainResult:
    """Train a network and export its weights into `out`.

    Parameters
    ----------
    network, preset, overrides
        See `raydeblend.train.networks.get_config`.
    out
        Directory or ``s3://`` prefix for checkpoints, TensorBoard logs and weights.
    workers
        Ray Train workers: one GPU each where the cluster has as many, else CPUs.
    resume
        Go on with the run in `out` from its last checkpoint, if there is one.
    shards
        Where images made for training are kept, by default in `out`; missing ones are made.
    address
        Of a Ray cluster; by default ``RAY_ADDRESS``, else this machine alone.
    gpus
        0 or one for each worker; by default whichever the cluster has.
    min_workers
        The run begins with as few, and goes on with as few where hosts vanish; Ray Train looks
        once a minute whether there is room for more.  By default always `workers`.

    Raises
    ------
    ConfigError
        If an argument is unusable, or `out` exists and is not to be resumed; before any work.
    TrainingError
        If a loss is not finite or a generator has collapsed; the checkpoints are kept.
    """
    config = get_config(network, preset, **_for_all_machines(overrides))
    check_workers(config, workers, min_workers)
    _check_gpus(gpus, workers)
    out = storage.absolute(out)
    shards = storage.join(out, "isolated") if shards is None else storage.absolute(shards)
    _check_out(out, config, resume)
    for name, count in count_parameters(config).items():
        log.info("%s of the preset %s has %s parameters", name, preset, f"{count:,}")
    training = get_training(config)
    training.check(shards)
    with ray_session(address):
        fewest = workers if min_workers is None else min_workers
        _check_capacity(fewest)
        use_gpu = claim_gpus(gpus, address) >= fewest
        _write_manifest(out, config)
        run = Run(config, out, training.prepare(shards))
        state = training.start(torch.device("cpu"))
        # Here too, since Ray would try the workers of a run without a whole checkpoint four times.
        load_newest(state, run.checkpoints)
        with follow(storage.join(out, HISTORY), config.epochs):
            _fit(run, workers if min_workers is None else (min_workers, workers), use_gpu)
        load_newest(state, run.checkpoints)
    return TrainResult(_export(run, state), state.history)


def count_parameters(config: RunConfig) -> dict[str, int]:
    """Return the number of parameters of each network that a run exports, by its file's name."""
    training = get_training(config)
    if ":" in config.network:
        networks = {file: training.build()[name] for name, file in training.exported_as().items()}
    else:
        with torch.device("meta"):
            networks = {
                file: build_network(file, config.architecture(name))
                for name, file in training.exported_as().items()
            }
    return {
        file: sum(parameter.numel() for parameter in network.parameters())
        for file, network in networks.items()
    }


def render_training(
    out: str, n: int, seed: int = 0, catalog: str | None = None, address: str | None = None
) -> list[str]:
    """Render `n` isolated galaxies of the paper's presets, for ``train(shards=out)``.

    Raises
    ------
    ConfigError
        If `catalog` is unusable or `out` holds images of other settings.
    """
    overrides = _for_all_machines({"n_galaxies": n, "seed": seed, "catalog": catalog})
    config = get_config("rdn", "paper", **overrides)
    out = storage.absolute(out)
    training = get_training(config)
    training.check(out)
    with ray_session(address):
        return list(training.prepare(out))


def _for_all_machines(overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the options with absolute paths, and a survey of one's own as the text of its file."""

    def is_path(name: str, value: Any) -> bool:
        named = name in PATH_OPTIONS or str(value).endswith(".safetensors")
        return named and value is not None

    options = {
        k: storage.absolute(value) if is_path(k, value) else value for k, value in overrides.items()
    }
    if options.get("surveys") is not None:
        options["surveys"] = tuple(map(survey_key, options["surveys"]))
    return options


def _check_out(out: str, config: RunConfig, resume: bool) -> None:
    path = storage.join(out, MANIFEST)
    storage.check_writable(out)
    if storage.list_files(out):
        if not resume:
            raise ConfigError(f"{out} is not empty; resume the run in it or name another place")
        if not storage.exists(path):
            raise ConfigError(f"{out} holds no training run to resume")
        if _begun_hash(path) != config_hash(config):
            raise ConfigError(f"{out} holds a run of other settings, see {path}")


def _begun_hash(path: str) -> str:
    try:
        return str(json.loads(storage.read_bytes(path))["hash"])
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{path} is no record of a training run: {error}") from error


def _write_manifest(out: str, config: RunConfig) -> None:
    manifest = {"hash": config_hash(config)} | asdict(config)
    storage.write_bytes(storage.join(out, MANIFEST), json.dumps(manifest, indent=1).encode())


def _check_gpus(gpus: int | None, workers: int) -> None:
    if gpus not in (None, 0, workers):
        raise ConfigError(f"a worker trains on one GPU: take 0 or {workers} GPUs, not {gpus}")


def _check_capacity(workers: int) -> None:
    cpus = int(ray.cluster_resources().get("CPU", 0))
    if workers > cpus:
        raise ConfigError(f"{workers} workers need as many CPUs; the cluster has {cpus}")


def _fit(run: Run, workers: int | tuple[int, int], use_gpu: bool) -> None:
    stopped = storage.join(run.out, STOPPED)
    storage.remove_files([stopped])
    mend_snapshot(run.checkpoints)
    trainer = ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config={"run": run},
        scaling_config=ray.train.ScalingConfig(num_workers=workers, use_gpu=use_gpu),
        run_config=ray.train.RunConfig(
            # By the same name and place Ray Train finds the checkpoints of a killed driver.
            name=os.path.basename(run.checkpoints),
            **storage_of(storage.parent(run.checkpoints)),
            failure_config=ray.train.FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            logging_config=ray.train.LoggingConfig(log_level="WARNING"),
        ),
    )
    trainer.fit()
    read_stop(stopped)


def _export(run: Run, state: TrainState) -> str:
    names = get_training(run.config).exported_as()
    paths = [
        save_weights(run.out, file, state.exported(name), _card(run.config, state, name, file))
        for name, file in names.items()
    ]
    return paths[0]


def _card(config: RunConfig, state: TrainState, name: str, file: str) -> Card:
    epoch = best_epoch(state.history, get_training(config).best)
    done = {"data": config.describe_data(), "epochs_done": epoch + 1}
    return Card(
        network=file,
        architecture=config.architecture(name),
        bands=config.bands,
        pixel_scale=config.pixel_scale(),
        scaling=config.scaling_of(name),
        training=asdict(config) | done,
        scores={"galaxies kept for validation": state.history[epoch]},
        commit=_commit(),
    )


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
