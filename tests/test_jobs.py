"""The scripts in jobs/, as `ray job submit` runs them on a cluster with authentication on."""

import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest
from token_head import RAY, Head

from raydeblend.cli import train as cli
from raydeblend.train.networks import NETWORKS

ROOT = Path(__file__).parents[1]


def submit(head: Head, *command: str) -> subprocess.CompletedProcess[str]:
    line = [RAY, "job", "submit", "--address", head.dashboard, "--working-dir", str(ROOT), "--"]
    for _ in range(30):
        job = subprocess.run(
            [*line, *command], env=head.environment, capture_output=True, text=True, timeout=400
        )
        # The dashboard listens a few seconds before the agent that runs jobs.
        if "No available agent" not in job.stderr:
            break
        time.sleep(1)
    return job


@pytest.mark.ray
def test_training_as_a_job(token_head: Head, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["--preset", "tiny", "--workers", "2", "--epochs", "2", "--out", str(out)]
    job = submit(token_head, "python", "jobs/train_rdn.py", *arguments)
    assert job.returncode == 0, job.stdout + job.stderr
    assert f"weights: {out}/rdn.safetensors" in job.stdout
    assert "epoch 2 of 2: loss" in job.stdout
    assert (out / "rdn.safetensors").exists()

    # Unusable arguments: one sentence, and the job fails.
    job = submit(token_head, "python", "jobs/train_rdn.py", *arguments)
    assert job.returncode == 1
    assert f"raydeblend: {out} is not empty" in job.stdout
    assert "exit code 2" in job.stdout + job.stderr


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "jobs").glob("*.py")))
def test_every_script_is_its_command(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr("raydeblend.cli.main.main", calls.append)
    monkeypatch.setattr(sys, "argv", [script, "--out", "x"])
    runpy.run_path(str(ROOT / "jobs" / script), run_name="__main__")
    command, *network = script.removesuffix(".py").split("_")
    assert calls == [[command, *(["-".join(network)] if network else []), "--out", "x"]]


def test_every_network_has_a_script() -> None:
    scripts = {path.stem for path in (ROOT / "jobs").glob("train_*.py")}
    networks = {"train_" + network.replace("-", "_") for network in NETWORKS}
    assert scripts == networks | {"train_suspect", "train_star", "train_structure"}
    assert set(cli.NETWORKS) == set(NETWORKS)
