"""The scripts in jobs/, as `ray job submit` runs them on a cluster with authentication on."""

import os
import runpy
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from raydeblend.cli import train as cli
from raydeblend.train.networks import NETWORKS

ROOT = Path(__file__).parents[1]
RAY = str(Path(sys.executable).with_name("ray"))


@dataclass(frozen=True)
class Head:
    """A cluster of one node: where jobs are submitted, and with which environment."""

    dashboard: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    token = tmp_path_factory.mktemp("auth") / "token"
    token.write_text(secrets.token_hex(32))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    port = free_port()
    # Sockets of AF_UNIX need short paths.
    with tempfile.TemporaryDirectory(prefix="rj", ignore_cleanup_errors=True) as folder:
        command = [RAY, "start", "--head", "--block", "--num-cpus=2", "--temp-dir", folder]
        command += ["--node-ip-address=127.0.0.1", f"--port={free_port()}"]
        command += ["--include-dashboard=true", f"--dashboard-port={port}"]
        # The agent that runs jobs has a fixed port by default; another Ray may hold it already.
        command += [f"--dashboard-agent-listen-port={free_port()}", "--disable-usage-stats"]
        log = tmp_path_factory.mktemp("head") / "log"
        with log.open("w") as stream:
            process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
        try:
            wait_for(port, process, log)
            yield Head(f"http://127.0.0.1:{port}", environment)
        finally:
            # `ray stop` would end every Ray of this machine.
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"no cluster: {log.read_text()}")


def submit(head: Head, *command: str) -> subprocess.CompletedProcess[str]:
    line = [RAY, "job", "submit", "--address", head.dashboard, "--working-dir", str(ROOT), "--"]
    for _ in range(30):
        job = subprocess.run(
            [*line, *command], env=head.environment, capture_output=True, text=True, timeout=120
        )
        # The dashboard listens a few seconds before the agent that runs jobs.
        if "No available agent" not in job.stderr:
            break
        time.sleep(1)
    return job


@pytest.mark.ray
def test_training_as_a_job(head: Head, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["--preset", "tiny", "--workers", "2", "--epochs", "2", "--out", str(out)]
    job = submit(head, "python", "jobs/train_rdn.py", *arguments)
    assert job.returncode == 0, job.stdout + job.stderr
    assert f"weights: {out}/rdn.safetensors" in job.stdout
    assert "epoch 2 of 2: loss" in job.stdout
    assert (out / "rdn.safetensors").exists()

    # Unusable arguments: one sentence, and the job fails.
    job = submit(head, "python", "jobs/train_rdn.py", *arguments)
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
