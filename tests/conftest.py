"""Fixtures that more than one part of the test suite uses."""

import logging
import os
from collections.abc import Callable
from typing import Any

import galsim
import numpy as np
import pytest
from galaxy_stamps import BANDS, FLUX, Truth, draw, make_blend
from numpy.typing import NDArray

from raydeblend.survey import get_survey, nominal_psf

KEPT_WORKERS = {"idle_worker_killing_time_threshold_ms": 3_600_000, "num_workers_soft_limit": 4}
"""Ray ends idle workers after a second; the next test's would import everything again."""
RAY_GROUPS = (
    (
        "train/test_train_loop.py",
        "test_docs.py",
        "cli/test_cli.py",
        "evaluate/shear/test_shear.py",
        "simulate/test_simulate_shards.py",
        "simulate/test_simulate_tiles.py",
    ),
    (
        "pipeline/test_deaths_slow.py",
        "pipeline/test_deaths.py",
        "pipeline/test_time_limit.py",
        "pipeline/test_ray_internals.py",
        "pipeline/test_pipeline_survey.py",
        "pipeline/test_bounded.py",
        "test_jobs.py",
        "test_cluster.py",
        "pipeline/test_shared_folder.py",
        "test_session.py",
        "pipeline/test_metrics.py",
    ),
)
"""Files with Ray: of each group one process does all, with one `ray_local`.  More Rays at a time
would wait for each other, and each file with one of its own would start it again."""


def pytest_configure():
    """No token for Ray's processes: one process starts Ray more than once, and Ray's core keeps
    the mode of the first time.  On a busy machine its parts take their time to start, and its
    workers would let the tests of other processes go first."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")
    os.environ.setdefault("RAY_worker_niceness", "0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files with Ray, which take the longest, in their order."""
    order = [name for group in RAY_GROUPS for name in group]
    with_ray = {_file(i.nodeid) for i in items if "ray_local" in getattr(i, "fixturenames", ())}
    if strays := with_ray.difference(order):
        raise pytest.UsageError(f"with ray_local, but not in RAY_GROUPS: {', '.join(strays)}")
    items.sort(key=lambda item: order.index(name) if (name := _file(item.nodeid)) in order else 99)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a process of pytest-xdist a group of files with Ray, or one file of the others."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = _file(nodeid)
            return next((group[0] for group in RAY_GROUPS if file in group), file)

    return Scheduling(config, log)


def _file(nodeid: str) -> str:
    return nodeid.split("::")[0].removeprefix("tests/")


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
            if not left or "timed out during startup" not in str(error):
                raise
        else:
            return


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
