"""A cluster of one node with authentication on, whose token is in no usual place."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from waiting import wait_for

RAY = str(Path(sys.executable).with_name("ray"))


@dataclass(frozen=True)
class Head:
    """Where the cluster is, where its jobs are submitted, and the environment that it knows."""

    address: str
    dashboard: str
    environment: dict[str, str]


@contextmanager
def running_head(folder: Path) -> Iterator[Head]:
    """Start the cluster, and end it; its token and its log are in `folder`."""
    token = folder / "token"
    token.write_text(secrets.token_hex(32))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    port, dashboard = free_port(), free_port()
    # Sockets of AF_UNIX need short paths.
    with tempfile.TemporaryDirectory(prefix="rj", ignore_cleanup_errors=True) as sessions:
        command = [RAY, "start", "--head", "--block", "--num-cpus=2", "--temp-dir", sessions]
        command += ["--node-ip-address=127.0.0.1", f"--port={port}"]
        command += ["--include-dashboard=true", f"--dashboard-port={dashboard}"]
        # The agent that runs jobs has a fixed port by default; another Ray may hold it already.
        command += [f"--dashboard-agent-listen-port={free_port()}", "--disable-usage-stats"]
        log = folder / "head.log"
        with log.open("w") as stream:
            process = subprocess.Popen(command, env=environment, stdout=stream, stderr=stream)
        try:
            wait_for(lambda: process.poll() is not None or _answers(dashboard), 60, log)
            assert process.poll() is None, log.read_text()
            yield Head(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", environment)
        finally:
            # `ray stop` would end every Ray of this machine.
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0
