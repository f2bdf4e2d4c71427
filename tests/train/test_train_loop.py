"""Training on a real Ray: two workers, one of them killed; a killed driver; s3; bad arguments."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.pool import Pool
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import ray
import torch
from s3 import S3Server, s3_server  # noqa: F401
from two_workers import other_process, without_ray

from raydeblend import storage
from raydeblend.cli.main import main
from raydeblend.errors import ConfigError
from raydeblend.networks.weights import load_weights
from raydeblend.simulate.shards import read_shard, write_shard
from raydeblend.train.loop import TrainResult, train
from raydeblend.train.progress import read_history
from raydeblend.train.stopping import TrainingDiverged

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 300.0


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the isolated images of the tiny preset are; the first run renders them."""
    return str(tmp_path_factory.mktemp("isolated"))


@pytest.fixture(autouse=True)
def _fast_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")


def wait_for_epochs(out: str, epochs: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while len(read_history(storage.join(out, "history.json"))) < epochs:
        assert time.monotonic() < deadline, f"no epoch {epochs} within {TIMEOUT_S} s"
        time.sleep(0.05)


def train_workers() -> list[int]:
    """Ray Train workers among the descendants of this process, and of no other."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True)
    rows = [line.split(maxsplit=2) for line in listing.stdout.splitlines()]
    family = {os.getpid()}
    for _ in range(4):  # this process, raylet, worker
        family |= {int(pid) for pid, parent, _ in rows if int(parent) in family}
    return [int(pid) for pid, _, args in rows if int(pid) in family and "RayTrainWorker" in args]


def kill_a_worker(out: str, killed: list[int]) -> None:
    wait_for_epochs(out, 2)
    killed.append(train_workers()[-1])
    os.kill(killed[0], signal.SIGKILL)


def test_two_workers_of_which_one_is_killed(ray_local: None, shards: str, tmp_path: Path) -> None:
    out, killed = str(tmp_path / "run"), []
    killer = threading.Thread(target=kill_a_worker, args=(out, killed))
    killer.start()
    result = train("rdn", out, "tiny", workers=2, shards=shards, epochs=8, steps=60)
    killer.join()
    assert killed

    losses = [scores["loss"] for scores in result.history]
    assert len(losses) == 8
    assert losses[-1] < 0.8 * losses[0]
    network, card = load_weights(result.weights)
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 3, 32, 32)
    assert card.bands == ("g", "r", "i")
    assert card.scores["galaxies kept for validation"] == result.history[-1]
    assert list(tmp_path.glob("run/checkpoints/*/checkpoint_*/state.pt"))
    assert list(tmp_path.glob("run/tensorboard/events*"))
    pictures = [plt.imread(path) for path in sorted(tmp_path.glob("run/samples/*.png"))]
    assert len(pictures) == 8
    # Four columns of six stamps of 32 pixels, enlarged to 96, below their names.
    assert {picture.shape[:2] for picture in pictures} == {(20 + 6 * 96, 4 * 96)}


@dataclass(frozen=True)
class Tiny:
    """A tiny preset: the files that it exports, a score, and whether `shards` serve it."""

    network: str
    files: tuple[str, ...]
    score: str
    shared: bool = False


TINY = (
    Tiny("counter", ("counter",), "accuracy", True),
    Tiny("gan", ("gan",), "diversity", True),
    Tiny("rdn-joint", ("rdn-joint", "rdn-joint-counter"), "psnr_2", True),
    Tiny("rdn-multiband", ("rdn-multiband",), "psnr_2"),
    Tiny("branched", ("branched",), "psnr_1"),
    Tiny("srgan", ("srgan",), "psnr"),
    Tiny("srgan-multiband", ("srgan-multiband",), "psnr"),
    Tiny("srflow", ("srflow",), "psnr"),
    Tiny("vae", ("vae",), "flux_nmad"),
    Tiny("vae-deblend", ("vae-deblend",), "flux_nmad"),
)
ON_RAY = ("rdn-joint",)
"""Of the presets, that of several networks; what Ray Train does is the same for all of them."""


def check_exports(tiny: Tiny, result: TrainResult, folder: Path) -> None:
    """Look at all that a training below `folder` left."""
    out = str(folder / "run")
    assert np.isfinite(result.history[-1][tiny.score])
    for name in tiny.files:
        _, card = load_weights(storage.join(out, f"{name}.safetensors"))
        assert (card.network, card.training["preset"]) == (name, "tiny")
    assert result.weights == storage.join(out, f"{tiny.files[0]}.safetensors")
    assert len(list(folder.glob("run/samples/*.png"))) == len(result.history)


@pytest.mark.parametrize("tiny", [t for t in TINY if t.network in ON_RAY], ids=lambda t: t.network)
def test_tiny_presets_run_on_two_workers_of_ray(
    tiny: Tiny, shards: str, ray_local: None, tmp_path: Path
) -> None:
    out, kept = str(tmp_path / "run"), shards if tiny.shared else None
    result = train(tiny.network, out, "tiny", workers=2, shards=kept, epochs=2)
    assert len(result.history) == 2
    check_exports(tiny, result, tmp_path)


@pytest.fixture(scope="module")
def other_worker() -> Iterator[Pool]:
    with other_process() as pool:
        yield pool


BROKEN = ("counter", "gan", "rdn-joint", "branched", "srgan", "vae")
"""One of each kind of stream; `test_train_steps` has that of the rdn."""


@pytest.mark.parametrize("tiny", [t for t in TINY if t.network in BROKEN], ids=lambda t: t.network)
def test_a_run_broken_within_an_epoch_ends_as_the_unbroken_one(
    tiny: Tiny, shards: str, other_worker: Pool, tmp_path: Path
) -> None:
    out, kept = tmp_path / "run", shards if tiny.shared else None
    options = {"workers": 2, "shards": kept, "epochs": 1, "steps": 12, "checkpoint_seconds": 0.0}
    with without_ray(other_worker):
        whole = train(tiny.network, str(out), "tiny", **options)
        check_exports(tiny, whole, tmp_path)
        within, end = sorted(tmp_path.glob("run/checkpoints/*/checkpoint_*"))
        assert {path.name for path in within.iterdir()} == {"state.pt", "begun-0.pt", "begun-1.pt"}
        weights = [load_weights(str(out / f"{name}.safetensors"))[0] for name in tiny.files]
        shutil.rmtree(end)
        again = train(tiny.network, str(out), "tiny", resume=True, **options)
    for name, before in zip(tiny.files, weights, strict=True):
        after, _ = load_weights(str(out / f"{name}.safetensors"))
        for a, b in zip(after.state_dict().values(), before.state_dict().values(), strict=True):
            assert torch.equal(a, b)
    for scores in (whole.history[0], again.history[0]):
        del scores["seconds"]
    assert again.history == whole.history


@pytest.mark.parametrize(
    "tiny", [t for t in TINY if t.network not in BROKEN], ids=lambda t: t.network
)
def test_every_other_tiny_preset_runs_on_two_workers(
    tiny: Tiny, shards: str, other_worker: Pool, tmp_path: Path
) -> None:
    out, kept = str(tmp_path / "run"), shards if tiny.shared else None
    with without_ray(other_worker):
        result = train(tiny.network, out, "tiny", workers=2, shards=kept, epochs=1, steps=3)
    check_exports(tiny, result, tmp_path)


def test_a_loss_that_is_not_a_number_ends_the_run_and_keeps_what_was_good(
    other_worker: Pool, tmp_path: Path
) -> None:
    out, options = str(tmp_path / "run"), {"workers": 2, "shards": str(tmp_path / "shards")}
    with without_ray(other_worker):
        first = train("rdn", out, "tiny", epochs=1, steps=4, **options)
    kept = list(tmp_path.glob("run/checkpoints/*/checkpoint_*/state.pt"))
    assert len(kept) == 1
    before = kept[0].read_bytes()
    # A sky without noise: every blend is infinitely noisy in its units.
    for path in tmp_path.glob("shards/*/*.npz"):
        shard = read_shard(str(path))
        group = replace(shard.group, sky_sigma=0 * shard.group.sky_sigma)
        write_shard(str(path), replace(shard, group=group))
    with (
        without_ray(other_worker),
        pytest.raises(TrainingDiverged, match="loss is nan by step 5"),
    ):
        train("rdn", out, "tiny", epochs=3, steps=4, resume=True, **options)
    assert kept[0].read_bytes() == before
    assert read_history(storage.join(out, "history.json")) == first.history


def test_a_collapsed_generator_ends_the_run(
    ray_local: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # A generator that does not learn gives the same gray image for every noise vector.
    out = str(tmp_path / "run")
    options = ["--preset", "tiny", "--epochs", "9", "--steps", "1", "--learning-rate", "1e-12"]
    with pytest.raises(SystemExit) as stopped:
        main(["train", "gan", "--out", out, *options])
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert "raydeblend: training collapsed in epoch 4: the samples are all alike" in said
    # What there was before is kept, and nothing exported.
    assert len(read_history(storage.join(out, "history.json"))) == 3
    assert list(tmp_path.glob("run/checkpoints/*/checkpoint_*/state.pt"))
    assert not list(tmp_path.glob("run/*.safetensors"))


DRIVER = """
import os, sys, ray
from raydeblend.train.loop import TrainResult, train
aws = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
ray.init(runtime_env={"env_vars": aws}, logging_level="ERROR", log_to_driver=False)
out, shards, resume = sys.argv[1:]
train("rdn", out, "tiny", resume=resume == "yes", shards=shards, epochs=6, steps=40)
"""


def start_driver(out: str, shards: str, resume: str) -> subprocess.Popen[bytes]:
    """Start training in a process of its own on this process's Ray."""
    address = ray.get_runtime_context().gcs_address
    environment = os.environ | {"RAY_ADDRESS": address, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", DRIVER, out, shards, resume], env=environment)


def test_a_killed_driver_is_resumed_from_s3(
    ray_local: None,
    shards: str,
    s3_server: S3Server,  # noqa: F811
) -> None:
    out = f"s3://{s3_server.bucket}/rdn"
    driver = start_driver(out, shards, "no")
    try:
        wait_for_epochs(out, 2)
    finally:
        driver.kill()
        driver.wait()
    first = read_history(storage.join(out, "history.json"))
    assert 2 <= len(first) < 6
    with pytest.raises(ConfigError, match="is not empty"):
        train("rdn", out, "tiny")
    with pytest.raises(ConfigError, match="other settings"):
        train("rdn", out, "tiny", resume=True, seed=1)

    assert start_driver(out, shards, "yes").wait(TIMEOUT_S) == 0
    history = read_history(storage.join(out, "history.json"))
    assert len(history) == 6
    # What was done is kept, not repeated.
    assert history[0] == first[0]
    assert load_weights(f"{out}/rdn.safetensors")[1].training["epochs_done"] == 6
    assert storage.list_files(storage.join(out, "tensorboard"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"network": "vgg"}, "unknown network"),
        ({"workers": 0}, "at least 1"),
        ({"workers": 3}, "shared equally"),
        ({"workers": 16}, "need as many CPUs; the cluster has 2"),
        ({"workers": 2, "gpus": 1}, "take 0 or 2 GPUs, not 1"),
        ({"gpus": 1}, r"the cluster has 0 GPU\(s\) and 2 CPU"),
        ({"bands": ("g", "x")}, "no band 'x'"),
        ({"data": "."}, "rdn has no training option 'data'"),
        ({"network": "gan", "data": "/nowhere"}, "there is no folder /nowhere"),
    ],
)
@pytest.mark.usefixtures("ray_local")
def test_bad_arguments(tmp_path: Path, arguments: dict[str, object], said: str) -> None:
    arguments = {"network": "rdn", "preset": "tiny", "out": str(tmp_path / "run")} | arguments
    with pytest.raises(ConfigError, match=said):
        train(**arguments)


def test_an_output_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        train("rdn", str(tmp_path), "tiny")
    with pytest.raises(ConfigError, match="no training run to resume"):
        train("rdn", str(tmp_path), "tiny", resume=True)
    assert os.listdir(tmp_path) == ["precious.txt"]
