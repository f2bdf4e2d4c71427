"""How much memory a cell may ask for, and how many cells there is room for then.

Ray only counts it: it stops no process that takes more, and starts none where too little is left.
"""

from __future__ import annotations

import math

import ray

from raydeblend.errors import ConfigError

GIB = 2**30


def check_memory(gib: float | None) -> None:
    """Check what ``--memory-per-cell`` gives, in GiB; a ConfigError if it is no amount."""
    if gib is not None and not 0 < gib < math.inf:
        raise ConfigError(f"--memory-per-cell must be a number of GiB above 0, not {gib:g}")


def check_room(gib: float | None) -> None:
    """Check that some machine of Ray's has so much, in GiB.

    Raises
    ------
    ConfigError
        If there are machines for cells, and none has.
    """
    if gib is None:
        return
    there = [memory / GIB for memory in _memories()]
    if there and max(there) < gib:
        raise ConfigError(
            f"no machine has the {gib:g} GiB that --memory-per-cell asks for; the largest gives "
            f"Ray {max(there):.1f} GiB"
        )


def n_places(gib: float) -> int:
    """Return how many processes that take so much have room in the cluster, one at least."""
    return max(1, sum(int(memory // (gib * GIB)) for memory in _memories()))


def _memories() -> list[float]:
    """Return the memory that each machine with CPUs gives to Ray, in bytes."""
    nodes = (node["Resources"] for node in ray.nodes() if node["Alive"])
    return [node.get("memory", 0.0) for node in nodes if node.get("CPU")]
