"""Training on Ray Train: any number of workers, killed or not, and weights at the end.

This is the driver; what each worker runs is in `raydeblend.train.worker`.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import ray.train
import ray.train.torch
import torch

from raydeblend import access, storage
from raydeblend.errors import ConfigError, Stopped
from raydeblend.session import claim_gpus, ray_session
from raydeblend.survey import survey_key
from raydeblend.train.begun import load_begun
from raydeblend.train.checkpoints import load_newest, mend_snapshot, storage_of
from raydeblend.train.config import RunConfig, check_workers, config_hash
from raydeblend.train.export import count_parameters, export_weights
from raydeblend.train.interfaces import InterfaceOfRay
from raydeblend.train.networks import get_config, get_training
from raydeblend.train.progress import follow
from raydeblend.train.run import Run
from raydeblend.train.state import Scalars
from raydeblend.train.stopping import STOPPED, read_stop
from raydeblend.train.worker import train_worker

log = logging.getLogger(__name__)

MANIFEST = "train.json"
PATH_OPTIONS = ("catalog", "held_out", "data", "vgg19_weights")
GO_ON = "go on with the same command and --resume"
MAX_FAILURES = 3
"""How often lost workers are replaced before a run gives up."""


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves behind.

    Attributes
    ----------
    weights
        Path of the exported weights; their card is next to them.
    history
        Scores of each epoch: loss, learning rate, seconds, and those of the validation.
    """

    weights: str
    history: list[Scalars]


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
        with _saying_how_far(Run(config, out, ())):
            run = Run(config, out, training.prepare(shards))
            state = training.start(torch.device("cpu"))
            # Here too, since Ray would try workers without a whole checkpoint four times.
            load_newest(state, run.checkpoints)
            with follow(out, config.epochs, config.steps):
                _fit(run, workers if min_workers is None else (min_workers, workers), use_gpu)
            load_newest(state, run.checkpoints)
    return TrainResult(export_weights(run, state), state.history)


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
    access.check_writable(out)
    if storage.list_files(out):
        if not resume:
            raise ConfigError(f"{out} is not empty; resume its run or choose another location")
        if not storage.exists(path):
            raise ConfigError(f"{out} holds no training run to resume")
        if _begun_hash(path) != config_hash(config):
            raise ConfigError(f"{out} holds a run of other settings, see {path}")


def _begun_hash(path: str) -> str:
    try:
        return str(json.loads(storage.read_bytes(path))["hash"])
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{path} is not the record of a training run: {error}") from error


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
    """Train, and raise what the workers stopped for."""
    stopped = storage.join(run.out, STOPPED)
    storage.remove_files([stopped])
    mend_snapshot(run.checkpoints)
    _train_on_ray(run, workers, use_gpu)
    read_stop(stopped)


def _train_on_ray(run: Run, workers: int | tuple[int, int], use_gpu: bool) -> None:
    trainer = ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config={"run": run},
        torch_config=InterfaceOfRay(),
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
    _in_thread(trainer.fit)


def _in_thread(work: Callable[[], object]) -> None:
    """Do work in a thread, which leaves signals to this one.

    Ray Train would end the process with exit code 0 on Ctrl-C.
    """
    done = Future[None]()

    def do() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  it is raised by who waits
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=do, daemon=True).start()
    done.result()


@contextmanager
def _saying_how_far(run: Run) -> Iterator[None]:
    """Let a stop say what the run can go on from."""
    try:
        yield
    except Stopped as stop:
        raise Stopped(stop.number, _how_far(run)) from None


def _how_far(run: Run) -> str:
    state = get_training(run.config).start(torch.device("cpu"))
    newest = load_newest(state, run.checkpoints)
    if newest is None:
        return f"there is no checkpoint in {run.out} yet; {GO_ON}"
    begun = load_begun(newest, 0, 1)
    steps = "" if begun is None else f" and {begun.so_far.steps} steps of the next"
    done = f"{state.epoch} of {run.config.epochs} epochs{steps}"
    return f"{done} are in the last checkpoint of {run.out}; {GO_ON}"
