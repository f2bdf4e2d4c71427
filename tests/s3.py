"""A real S3 server on loopback (``rclone serve s3``) for the tests that matter."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import s3fs

ACCESS_KEY = "raydeblend-test"
SECRET_KEY = "a-secret-of-the-tests"
BUCKET = "tiles"


@dataclass(frozen=True)
class S3Server:
    """Where the server listens, the bucket it holds, and its process, to stop and start."""

    endpoint: str
    bucket: str
    process: Rclone


class Rclone:
    """An rclone that serves a folder, always on one port, so that it can go and come back."""

    def __init__(self, folder: Path, log: Path) -> None:
        folder.mkdir()
        self.folder, self.log = folder, log
        self.address = f"127.0.0.1:{_free_port()}"
        self.server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = _command(self.folder, self.address)
            self.server = subprocess.Popen(command, stdout=log, stderr=log)
        _wait_for(self.address)

    def stop(self) -> None:
        if self.server is not None:
            self.server.terminate()
            self.server.wait(timeout=10)


@pytest.fixture
def s3_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """Serve an empty bucket ``tiles`` and point this test's AWS variables at it.

    Import it into a test module to use it: ``from s3 import s3_server``.
    """
    rclone = Rclone(tmp_path / "s3", tmp_path / "rclone.log")
    try:
        rclone.start()
        endpoint = f"http://{rclone.address}"
        _set_aws_variables(monkeypatch, endpoint)
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir(BUCKET)
        yield S3Server(endpoint, BUCKET, rclone)
    finally:
        rclone.stop()


def _command(folder: Path, address: str) -> list[str]:
    program = Path(sys.executable).with_name("rclone")
    keys = f"{ACCESS_KEY},{SECRET_KEY}"
    arguments = ["--addr", address, "--auth-key", keys, "--config", os.devnull]
    return [str(program), "serve", "s3", str(folder), *arguments]


def _set_aws_variables(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in aws_variables(endpoint).items():
        monkeypatch.setenv(name, value)


def aws_variables(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        # rclone does not know the checksums that newer AWS clients send by default.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(address: str, seconds: float = 60.0) -> None:
    host, port = address.split(":")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"rclone did not listen on {address} within {seconds:.0f} s")
