"""Epochs on one device or several, without Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from raydeblend.train.state import Scalars
from raydeblend.train.stopping import check_finite

Step = Callable[[int], dict[str, Tensor]]
"""Does the step of the given number, from 0 over all epochs: forward, backward, optimizers.

It returns ``{"loss": ..., ...}``, detached and ``()``; a scalar whose name begins with "loss" must
stay finite, or the run stops."""
CHECK_EVERY = 50
"""Steps after which the workers tell each other their losses, and stop if one is not finite."""


def run_epoch(step: Step, first: int, count: int) -> Scalars:
    """Do `count` steps, of which the first is number `first`; return the means over all workers.

    Raises
    ------
    TrainingDiverged
        If a loss is not finite, on every worker.
    """
    means: list[tuple[int, Scalars]] = []
    for begin in range(first, first + count, CHECK_EVERY):
        end = min(begin + CHECK_EVERY, first + count)
        scores = mean_over_workers([step(number) for number in range(begin, end)])
        check_finite(scores, end - 1)
        means.append((end - begin, scores))
    return {name: sum(n * scores[name] for n, scores in means) / count for name in means[0][1]}


def mean_over_workers(scalars: list[dict[str, Tensor]]) -> Scalars:
    """Return the mean of each scalar over the steps of this worker and over the workers."""
    names = list(scalars[0])
    mean = torch.stack([torch.stack([step[name].float() for name in names]) for step in scalars])
    mean = mean.mean(dim=0)
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(mean)
        mean = mean / torch.distributed.get_world_size()
    return dict(zip(names, mean.tolist(), strict=True))


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
