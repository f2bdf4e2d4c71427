"""The one place where Ray is started."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

QUIET = ("ray.data", "ray.train")


@contextmanager
def ray_session(address: str | None = None) -> Iterator[None]:
    """Connect to the cluster at `address`, else to ``RAY_ADDRESS``, else start a local one.

    A Ray that runs already is used and left running.
    """
    if ray.is_initialized():
        yield
        return
    # Without "local", the stale address file of a dead cluster would be followed.
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    local = {"include_dashboard": False} if address == "local" else {}
    ray.init(address=address, logging_level="ERROR", log_to_driver=False, **local)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()
