"""What a step draws its images from, so that a run can go on in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from raydeblend.train.epoch import Step

Tensors = Mapping[str, Tensor]


class Stream(Protocol):
    """A source of training images that can be put back to where it was."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return all that the images to come depend on."""

    def load_state_dict(self, state: Tensors) -> None:
        """Go on from what `state_dict` has returned."""


@dataclass(frozen=True)
class ResumableStep:
    """A step function of which the images to come are known.

    A plain function will do for `NetworkTraining.steps`; then checkpoints are made between epochs
    alone.
    """

    do: Step
    stream: Stream

    def __call__(self, number: int) -> dict[str, Tensor]:
        """Do a step, see `Step`."""
        return self.do(number)


@dataclass(frozen=True)
class RandomStream:
    """A stream in which nothing but its generator of random numbers changes."""

    generator: torch.Generator

    def state_dict(self) -> dict[str, Tensor]:
        """Return the generator's state."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: Tensors) -> None:
        """Put the generator back."""
        self.generator.set_state(state["generator"].cpu())
