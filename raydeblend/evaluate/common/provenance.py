"""Where the numbers of ``metrics.json`` come from: command, commit, weights, hardware, date."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from raydeblend import storage
from raydeblend.errors import ConfigError

NAME = "provenance.json"
PACKAGES = ("raydeblend", "numpy", "scipy", "torch", "scikit-image", "sep", "galsim", "ngmix")
"""Whose versions are written, where they are installed."""
CODE = ("py", "toml", "safetensors")
_PACKAGE = Path(__file__).parent.parent


def describe_run(
    command: Sequence[str], seconds: float, weights: str | None = None
) -> dict[str, Any]:
    """Return what a reader needs to repeat a run and to judge its times.

    Parameters
    ----------
    command
        Words of the command line.
    seconds
        Wall time of the run.
    weights
        A file or folder of weights that it used.
    """
    return {
        "command": shlex.join(command),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "seconds": round(seconds, 1),
        "commit": commit(),
        "hardware": hardware(),
        "weights": weight_hashes(weights),
        "versions": versions(),
    }


def commit() -> str:
    """Return the checkout's commit, with ``-dirty`` where code or weights differ from it.

    Documents do not count: `make results` itself writes some between its runs.
    """
    name = _git("describe", "--always", "--exclude", "*")
    changed = _git("diff", "HEAD", "--name-only", "--", *(f":/*.{end}" for end in CODE))
    return f"{name}-dirty" if name and changed else name or "unknown (not a git checkout)"


def _git(*words: str) -> str:
    command = ["git", "-C", str(_PACKAGE), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def hardware() -> str:
    """Return the processor, the cores this process may use, and the GPU if there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{processor()}, {cores} cores, {_gpu()}"


def processor() -> str:
    """Return the name of this machine's processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _gpu() -> str:
    from raydeblend.networks.forward import gpu_name

    return gpu_name() or "no GPU"


def weight_hashes(given: str | None = None) -> dict[str, str]:
    """Return the SHA-256 of the shipped weights by name, and of `given` ones by path."""
    from raydeblend.networks.weights import load_card, shipped_weights, weights_below

    shipped = {name: load_card(path).sha256 for name, path in shipped_weights().items()}
    own = weights_below(given) if given is not None else []
    return shipped | {path: load_card(path).sha256 for path in own}


def versions() -> dict[str, str]:
    """Return the versions of the packages that numbers depend on."""
    found = {name: _version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **{k: v for k, v in found.items() if v}}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def to_file(provenance: Mapping[str, Any]) -> bytes:
    """Return the content of ``provenance.json``."""
    return (json.dumps(provenance, indent=1) + "\n").encode()


def read_provenance(root: str) -> dict[str, Any]:
    """Return the provenance of a results directory; empty where none was written.

    Raises
    ------
    ConfigError
        If the file is damaged.
    """
    path = storage.join(root, NAME)
    if not storage.exists(path):
        return {}
    try:
        content = json.loads(storage.read_bytes(path))
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} does not hold the provenance of a run")
    return content
