"""Fixtures that more than one part of the test suite uses."""

import logging
import os

import pytest


def pytest_configure():
    """No token for Ray's processes: one process starts Ray more than once, and Ray's core keeps
    the mode of the first time."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")


@pytest.fixture(scope="session")
def ray_local():
    """A quiet Ray of two CPUs on this machine, for the whole session."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            logging_level="ERROR",
            log_to_driver=False,
        )
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield
        ray.shutdown()
