"""An epoch in the middle, as each worker's file in a checkpoint keeps it.

The networks are in the file of `raydeblend.train.state`, the same for all workers.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from raydeblend import storage
from raydeblend.train.epoch import EpochSoFar, Step
from raydeblend.train.state import DAMAGED
from raydeblend.train.streams import ResumableStep


@dataclass(frozen=True)
class BegunEpoch:
    """What one worker goes on from.

    Attributes
    ----------
    so_far
        The steps done.
    seconds
        That they took.
    random
        States of the generators that layers such as dropout draw from, of the CPU and, where there
        is one, of the GPU; None where the images to come are not known.
    stream
        State of the images to come.
    """

    so_far: EpochSoFar
    seconds: float
    random: tuple[Tensor, ...] | None = None
    stream: dict[str, Tensor] | None = None

    def restore(self, step: Step) -> None:
        """Let a step function of this epoch go on where this one was."""
        if self.random is None or not isinstance(step, ResumableStep):
            return
        cpu, *gpu = self.random
        torch.set_rng_state(cpu)
        if gpu and torch.cuda.is_available():
            torch.cuda.set_rng_state(gpu[0])
        step.stream.load_state_dict(self.stream or {})


def begun_name(rank: int) -> str:
    """Return the name of a worker's file in a checkpoint."""
    return f"begun-{rank}.pt"


def save_begun(
    path: str, world: int, so_far: EpochSoFar, seconds: float, step: ResumableStep
) -> None:
    """Write a local file of what this worker, one of `world`, goes on from."""
    gpu = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []
    content = {
        "world": world,
        "so_far": asdict(so_far),
        "seconds": seconds,
        "random": [torch.get_rng_state(), *gpu],
        "stream": step.stream.state_dict(),
    }
    torch.save(content, path)


def load_begun(folder: str, rank: int, world: int) -> BegunEpoch | None:
    """Return what worker `rank` goes on from, of a checkpoint; None between two epochs.

    With another number of workers than before the steps are gone on with, but with other images.
    """
    first = _read(storage.join(folder, begun_name(0)))
    if first is None:
        return None
    own = _read(storage.join(folder, begun_name(rank)))
    so_far = EpochSoFar(**first["so_far"])
    if own is None or own["world"] != world:
        return BegunEpoch(so_far, first["seconds"])
    return BegunEpoch(so_far, first["seconds"], tuple(own["random"]), own["stream"])


def _read(path: str) -> dict[str, Any] | None:
    """Return the content of a file; None where there is none, or it was cut off."""
    if not storage.exists(path):
        return None
    try:
        data = io.BytesIO(storage.read_bytes(path))
        content: dict[str, Any] = torch.load(data, map_location="cpu", weights_only=True)
    except DAMAGED:
        return None
    return content
