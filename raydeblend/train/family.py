"""What the training loop knows of a network family: plain functions, called in this order.

The driver calls `check` before anything and `prepare` once Ray runs.  Each worker calls `start`,
`load`, and `steps` for every epoch; the first worker calls `load_validation`, and `validate` and
`picture` after every epoch.  The driver exports `exported` in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from raydeblend.train.config import RunConfig
from raydeblend.train.state import Scalars, TrainState

C = TypeVar("C", bound=RunConfig)
D = TypeVar("D")
V = TypeVar("V")

Step = Callable[[int], dict[str, Tensor]]
"""Does the step of the given number, from 0 over all epochs: forward, backward, optimizers.

Returns ``{"loss": ..., ...}``, detached and ``()``; a name that begins with "loss" must stay
finite, or the run stops."""


@dataclass(frozen=True)
class Family(Generic[C, D, V]):
    """One network family.

    Attributes
    ----------
    exported
        Names in `TrainState.networks` of what is exported, the first as
        ``<network>.safetensors``, others as ``<network>-<name>.safetensors``.
    check
        (config, shards root): raises ConfigError for unusable data or missing weights.
    prepare
        (config, shards root): makes the training data, may use Ray through
        `raydeblend.simulate.shards`; returns the paths that the workers read.
    load
        (config, paths, rank, world, device): a worker's training data, in memory.
    load_validation
        (config, paths, device): the data kept for validation.
    start
        (config, device): the state before the first epoch, the same for all workers.
    steps
        (config, state, networks, data, n, seed): the step function of one epoch.  `networks` are
        those of the state, each wrapped by DDP where there are several workers; use those of the
        state (what DDP calls ``.module``) where a network is not updated, as the discriminator in
        a generator's step.  `n` images a step on this worker; `seed` of this epoch and worker.
    validate
        (config, state, validation data): scores of the epoch.  Generators report `diversity` and
        `brightness`, see `raydeblend.train.stopping`.
    picture
        (config, state, validation data): ``(3, y, x)`` in 0..1, samples for people to look at.
    best
        Score of `validate` whose lowest epoch is exported; None: the last epoch is.
    """

    exported: tuple[str, ...]
    check: Callable[[C, str], None]
    prepare: Callable[[C, str], tuple[str, ...]]
    load: Callable[[C, Sequence[str], int, int, torch.device], D]
    load_validation: Callable[[C, Sequence[str], torch.device], V]
    start: Callable[[C, torch.device], TrainState]
    steps: Callable[[C, TrainState, Mapping[str, nn.Module], D, int, int], Step]
    validate: Callable[[C, TrainState, V], Scalars]
    picture: Callable[[C, TrainState, V], Tensor | None]
    best: str | None = None

    def exported_as(self, network: str) -> dict[str, str]:
        """Return the names of the files (without suffix) by the names of the networks."""
        first, *others = self.exported
        return {first: network} | {name: f"{network}-{name}" for name in others}
