"""Fixtures that more than one part of the test suite uses."""

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import galsim
import numpy as np
import pytest
from galaxy_stamps import BANDS, FLUX, Truth, draw, make_blend
from numpy.typing import NDArray
from token_head import Head, running_head

from raydeblend.survey import get_survey, nominal_psf

KEPT_WORKERS = {"idle_worker_killing_time_threshold_ms": 3_600_000, "num_workers_soft_limit": 4}
"""Ray ends idle workers after a second; the next test's would import everything again."""

WITH_RAY = ("ray_local", "mark.ray", "mark.cluster")
"""One of these is in every file with tests that need Ray."""


def pytest_configure():
    """No token for Ray's processes: one process starts Ray more than once, and Ray's core keeps
    the mode of the first time.  On a busy machine its parts take their time to start, and its
    workers would let the tests of other processes go first."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_metrics_report_interval_ms", "1000")  # of ten seconds


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Of tests with Ray read only the files that have some: to read all takes a minute."""
    if not config.option.markexpr.startswith("ray") or not collection_path.match("test_*.py"):
        return None
    text = collection_path.read_text()
    return None if any(word in text for word in WITH_RAY) else True


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs Ray; a test that starts one of its own says so itself."""
    for item in items:
        if "ray_local" in getattr(item, "fixturenames", ()):
            item.add_marker("ray_local")
        if any(item.get_closest_marker(name) for name in ("ray_local", "cluster")):
            item.add_marker("ray")


@pytest.fixture(scope="session")
def ray_local():
    """A quiet Ray of two CPUs on this machine, for the whole session."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        _start_ray()
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield
        ray.shutdown()


def _start_ray(tries: int = 3) -> None:
    """Start Ray, again if the machine was too busy: it gives itself no more than 30 seconds."""
    import ray

    others = _children()
    for left in reversed(range(tries)):
        try:
            ray.init(
                address="local",
                num_cpus=2,
                include_dashboard=False,
                logging_level="ERROR",
                log_to_driver=False,
                _system_config=KEPT_WORKERS,
            )
        except Exception as error:
            ray.shutdown()
            # A start that failed leaves them, and they would slow down the next.
            for process in _children() - others:
                os.kill(process, signal.SIGKILL)
            if not left or "timed out during startup" not in str(error):
                raise
        else:
            return


def _children() -> set[int]:
    """Process ids of the children of this process, where /proc tells them."""
    lists = Path("/proc/self/task").glob("*/children")
    return {int(process) for path in lists for process in path.read_text().split()}


@pytest.fixture(scope="session")
def token_head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """A cluster with a token that this process does not have."""
    with running_head(tmp_path_factory.mktemp("head")) as head:
        yield head


@pytest.fixture(scope="session")
def in_process() -> Iterator[dict[str, str]]:
    """An environment whose `raydeblend` has no imports to wait for and does without Ray."""
    from command_server import running_commands

    with running_commands() as folder:
        path = f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        yield os.environ | {"PATH": path}


@pytest.fixture(scope="session")
def psf() -> tuple[NDArray[np.float32], ...]:
    survey = get_survey("HSC")
    return tuple(nominal_psf(survey, band) for band in BANDS)


@pytest.fixture(scope="session")
def galaxies(psf: tuple[NDArray[np.float32], ...]) -> Callable[..., Truth]:
    """Return a function that draws `n` noisy copies of a galaxy at `snr`, all bands together."""

    def make(profile: galsim.GSObject, n: int, snr: float, size: int = 48, seed: int = 0) -> Truth:
        rng = np.random.default_rng(seed)
        xy = (size - 1) / 2 + rng.uniform(-0.5, 0.5, (n, 1, 2))
        blends = []
        for position in xy:
            bands = zip(psf, FLUX, strict=True)
            clean = np.stack([f * draw(profile, p, position[0], size) for p, f in bands])
            sigma = float(np.sqrt((clean**2).sum()) / snr)
            noisy = clean + rng.normal(0, sigma, clean.shape)
            blends.append(make_blend(noisy, sigma, position))
        return Truth(blends, [np.zeros((1, 3, size, size))] * n, list(xy), FLUX, psf)

    return make
