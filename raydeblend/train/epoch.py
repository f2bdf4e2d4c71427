"""Epochs on one device or several, without Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from raydeblend.train.state import Scalars
from raydeblend.train.stopping import check_finite

Step = Callable[[int], dict[str, Tensor]]
"""Does the step of the given number, from 0 over all epochs: forward, backward, optimizers.

It returns ``{"loss": ..., ...}``, detached and ``()``; a scalar whose name begins with "loss" must
stay finite, or the run stops."""
CHECK_EVERY = 10
"""Steps after which the workers tell each other their losses, and stop if one is not finite."""


@dataclass
class EpochSoFar:
    """What has been done of an epoch.

    Attributes
    ----------
    steps
        Done, on each worker.
    sums
        Of each scalar over these steps, each step's a mean over the workers.
    """

    steps: int = 0
    sums: Scalars = field(default_factory=dict)

    def add(self, scalars: Scalars) -> None:
        """Count one step."""
        self.steps += 1
        for name, value in scalars.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    @property
    def means(self) -> Scalars:
        """Mean of each scalar."""
        return {name: value / self.steps for name, value in self.sums.items()}


class Observer(Protocol):
    """Receives the progress of an epoch while it runs."""

    def stepped(self, steps: int) -> None:
        """Hear how many steps of the epoch this worker has done."""

    def checked(self, so_far: EpochSoFar, last: Scalars) -> None:
        """Hear what all workers have done; `last` are the scalars of the last step."""


def run_epoch(
    step: Step,
    first: int,
    count: int,
    so_far: EpochSoFar | None = None,
    observer: Observer | None = None,
) -> Scalars:
    """Do the steps of an epoch; return the means over all of them and over all workers.

    Parameters
    ----------
    first, count
        The number of the epoch's first step, and how many there are.
    so_far
        What of them was done before; it is carried on.

    Raises
    ------
    TrainingDiverged
        If a loss is not finite, on every worker.
    """
    so_far = so_far or EpochSoFar()
    while so_far.steps < count:
        scalars = []
        for done in range(so_far.steps, min(so_far.steps + CHECK_EVERY, count)):
            scalars.append(step(first + done))
            if observer:
                observer.stepped(done + 1)
        for each in mean_over_workers(scalars):
            check_finite(each, first + so_far.steps)
            so_far.add(each)
        if observer:
            observer.checked(so_far, each)
    return so_far.means


def mean_over_workers(scalars: list[dict[str, Tensor]]) -> list[Scalars]:
    """Return the scalars of each step of this worker as means over the workers."""
    names = list(scalars[0])
    mean = torch.stack([torch.stack([step[name].float() for name in names]) for step in scalars])
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(mean)
        mean = mean / torch.distributed.get_world_size()
    return [dict(zip(names, row, strict=True)) for row in mean.tolist()]


def descend(optimizer: Optimizer, loss: Tensor, rate: float, clip: float = 0.0) -> None:
    """Do one step of an optimizer at the given learning rate; `clip` limits the gradient's norm."""
    descend_in_parts(optimizer, [loss], rate, clip)


def descend_in_parts(
    optimizer: Optimizer, parts: Iterable[Tensor], rate: float, clip: float = 0.0
) -> None:
    """Do one step for a loss that is the sum of `parts`.

    Each part is differentiated before the next is asked for, so that of a generator's parts only
    one is in memory at a time.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    for part in parts:
        part.backward()  # type: ignore[no-untyped-call]
    if clip:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, clip)
    optimizer.step()


def training_mode(networks: Mapping[str, nn.Module]) -> None:
    """Put all networks into training mode."""
    for network in networks.values():
        network.train()
