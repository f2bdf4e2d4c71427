"""A cluster of Ray on hosts of their own: a head without CPUs, three workers of one CPU, and s3."""

import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import hosts
from clock import Clock
from s3 import ACCESS_KEY, SECRET_KEY, aws_variables

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
SLOW_LINK = [sys.executable, str(Path(__file__).with_name("slow_link.py"))]
WORKERS = ("steady", "slow", "odd")
"""The link of ``slow`` can be degraded; ``odd`` loses its link, its disk and its time."""
GCS_PORT, DASHBOARD_PORT, S3_PORT = 6379, 8265, 9000
STORE_BYTES = 120_000_000
PAGE = (ROOT / "docs" / "howto" / "cluster.md").read_text()
SYSTEM_CONFIG = re.search("--system-config='(.*)'", PAGE)[1]
"""As for a cluster that is started by hand."""
START_S = 300
ASK = """
import json, os, sys, time
from http.client import HTTPException
from urllib.request import Request, urlopen
address, *wanted = sys.argv[1:]
token = {"Authorization": "Bearer " + os.environ["RAY_AUTH_TOKEN"]}
while True:
    try:
        nodes = json.load(urlopen(Request(address + "/api/v0/nodes", headers=token), timeout=10))
        nodes = nodes["data"]["result"]["result"]
        if {n["node_ip"] for n in nodes if n["state"] == "ALIVE"} == set(wanted):
            break
    except (OSError, HTTPException, ValueError, LookupError, TypeError):
        pass  # it has just started
    time.sleep(0.3)
"""
"""Returns when Ray takes just the nodes at some addresses for alive."""


class Cluster:
    """The hosts, and what runs on them."""

    def __init__(self, network, folder):
        self.network, self.folder = network, Path(folder)
        self.clock = Clock(folder)
        self.head = network.add("head")
        self.s3 = network.add("s3")
        self.workers = {
            name: network.add(name, SLOW_LINK if name == "slow" else None) for name in WORKERS
        }
        self.address = f"{self.head.address}:{GCS_PORT}"
        self.dashboard = f"http://{self.head.address}:{DASHBOARD_PORT}"
        self.environment = _environment(f"http://{self.s3.address}:{S3_PORT}")

    def start(self):
        """Start all of it; returns when every node is there."""
        self.start_s3()
        self.start_head()
        for i, name in enumerate(WORKERS):
            # One at a time, since all together take longer than Ray gives each.
            self.start_worker(name)
            self.wait_for_nodes(WORKERS[: i + 1])

    def start_s3(self):
        served = self.folder / "s3"
        served.mkdir()
        keys = f"{ACCESS_KEY},{SECRET_KEY}"
        self._start(
            self.s3,
            [str(BIN / "rclone"), "serve", "s3", str(served), "--addr",
             f"{self.s3.address}:{S3_PORT}", "--auth-key", keys, "--config", os.devnull],
        )  # fmt: skip

    def start_head(self):
        self._ray(
            self.head, "--head", f"--port={GCS_PORT}", "--num-cpus=0",
            f"--system-config={SYSTEM_CONFIG}",
            f"--dashboard-host={self.head.address}", f"--dashboard-port={DASHBOARD_PORT}",
        )  # fmt: skip
        self.wait_for_nodes(())

    def start_worker(self, name):
        clock = self.clock.environment if name == "odd" else {}
        self._ray(self.workers[name], f"--address={self.address}", "--num-cpus=1", **clock)

    def restart_worker(self, name):
        """End all that runs on a worker's host, and start its Ray anew."""
        self.workers[name].halt()
        self.wait_for_nodes([other for other in WORKERS if other != name])
        self.start_worker(name)
        self.wait_for_nodes(WORKERS)

    def wait_for_nodes(self, names):
        """Wait until Ray takes just these workers for alive."""
        there = [self.head.address, *(self.workers[name].address for name in names)]
        ask = [sys.executable, "-c", ASK, self.dashboard, *there]
        code, said = self.head.run(ask, timeout=START_S, env=self.environment)
        assert code == 0, said

    def start_command(self, *arguments, log, as_job=False):
        """Start `raydeblend` on the head, or submit it as a job and wait."""
        submit = ["ray", "job", "submit", "--address", self.dashboard, "--"] if as_job else []
        command = [sys.executable, "-m", "raydeblend", *arguments]
        return self._start(self.head, [*submit, *command], log)

    def start_script(self, name, *arguments, log):
        """Start a script of jobs/ on the head, as the driver of the cluster."""
        command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *arguments]
        return self._start(self.head, command, log, RAY_ADDRESS=self.address)

    def trainers(self):
        """Hosts and process ids of the workers of Ray Train."""
        return [(h, pid) for h in self.workers.values() for pid in h.processes("RayTrainWorker")]

    def kill_driver(self):
        """Kill the `raydeblend` that runs on the head."""
        for pid in self.head.processes("-m raydeblend catalog"):
            os.kill(pid, signal.SIGKILL)

    def _ray(self, host, *options, **environment):
        command = [str(BIN / "ray"), "start", "--block", f"--node-ip-address={host.address}",
                   f"--object-store-memory={STORE_BYTES}", "--disable-usage-stats",
                   f"--temp-dir={hosts.FOLDER}/ray", *options]  # fmt: skip
        # Ray gives itself half a minute to start, which a busy machine may not have.
        again = f"until {shlex.join(command)}; do :; done"
        self._start(host, ["sh", "-c", again], **environment)

    def _start(self, host, command, log=None, **environment):
        path = log or self.folder / f"{host.name}.log"
        with open(path, "ab") as file:
            return host.start(
                command, env=self.environment | environment, stdout=file, stderr=subprocess.STDOUT
            )


@contextmanager
def running_cluster(folder):
    """Start a cluster, and end it to its last process."""
    with hosts.Network() as network:
        cluster = Cluster(network, folder)
        cluster.start()
        yield cluster


def _environment(endpoint):
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "RAY_"))
    }
    return (
        kept
        | aws_variables(endpoint)
        | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_agent_register_timeout_ms": "240000",
            "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "240",
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
            "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
            "RAY_worker_niceness": "0",
            "RAY_TMPDIR": hosts.FOLDER,
            "TMPDIR": hosts.FOLDER,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
    )
