"""What the training loop knows of a network: the methods of a `NetworkTraining`, in this order.

The driver calls `check` before anything else and `prepare` once Ray runs.  Each worker calls
`start`, `load`, and `steps` for every epoch; the first worker calls `load_validation`, and
`validate` and `picture` after every epoch.  The driver exports the networks named by `exported` in
the end.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from raydeblend.train.config import RunConfig
from raydeblend.train.epoch import Step, descend, descend_in_parts
from raydeblend.train.state import Scalars, TrainState, start_state

C = TypeVar("C", bound=RunConfig)
D = TypeVar("D")
V = TypeVar("V")

Networks = Mapping[str, nn.Module]


@dataclass(frozen=True)
class NetworkTraining(ABC, Generic[C, D, V]):
    """How one network is trained; the types are those of `config` and of what is learned from.

    Attributes
    ----------
    config
        The run.
    exported
        Names in `TrainState.networks` of what is exported, the first as
        ``<network>.safetensors``, others as ``<network>-<name>.safetensors``.
    columns
        What the columns of `picture` show; none are named by default.
    best
        Score of `validate` whose lowest epoch is exported; None: the last epoch is.
    """

    config: C

    exported: ClassVar[tuple[str, ...]]
    columns: ClassVar[tuple[str, ...]] = ()
    best: ClassVar[str | None] = None

    @abstractmethod
    def check(self, root: str) -> None:
        """Check the data, those already in `root` included, and the weights that are needed.

        Raises
        ------
        ConfigError
            If they are missing or unusable.
        """

    @abstractmethod
    def prepare(self, root: str) -> tuple[str, ...]:
        """Make the training data in `root` and return the paths that the workers read.

        It may use Ray through `raydeblend.simulate.shards`.
        """

    @abstractmethod
    def load(self, paths: Sequence[str], rank: int, world: int, device: torch.device) -> D:
        """Return the training data of worker `rank` of `world`, in memory."""

    @abstractmethod
    def load_validation(self, paths: Sequence[str], device: torch.device) -> V:
        """Return the data kept for validation."""

    @abstractmethod
    def build(self) -> dict[str, nn.Module]:
        """Return the networks as they are before the first epoch, by name; torch is seeded."""

    @abstractmethod
    def optimizer(self, network: nn.Module) -> Optimizer:
        """Return an optimizer of one of the networks."""

    def start(self, device: torch.device) -> TrainState:
        """Return the state before the first epoch, the same on all workers."""
        torch.manual_seed(self.config.seed)
        averaged = self.exported if self.config.ema else ()
        return start_state(self.build(), self.optimizer, device, averaged)

    @abstractmethod
    def steps(self, state: TrainState, networks: Networks, data: D, n: int, seed: int) -> Step:
        """Return the step function of one epoch.

        Parameters
        ----------
        networks
            Those of the state, each wrapped by DDP where there are several workers.  Use those of
            the state (what DDP calls ``.module``) where a network is not updated, as the
            discriminator in a generator's step.
        n
            Images a step on this worker.
        seed
            Of this epoch and worker.
        """

    def descend(self, state: TrainState, name: str, loss: Tensor, rate: float) -> None:
        """Do one step of the optimizer of the network `name` at a learning rate."""
        descend(state.optimizers[name], loss, rate, self.config.clip)

    def descend_in_parts(
        self, state: TrainState, name: str, parts: Iterable[Tensor], rate: float
    ) -> None:
        """Do one step of the network `name` for the sum of losses, one in memory at a time."""
        descend_in_parts(state.optimizers[name], parts, rate, self.config.clip)

    @abstractmethod
    def validate(self, state: TrainState, held_out: V) -> Scalars:
        """Return the scores of an epoch.

        Generators report `diversity` and `brightness`, see `raydeblend.train.stopping`.
        """

    @abstractmethod
    def picture(self, state: TrainState, held_out: V) -> Tensor:
        """Draw samples for people to look at, ``(3, y, x)`` in 0..1."""

    def architecture(self, name: str, scores: Scalars) -> dict[str, Any]:
        """Return the configuration of an exported network of an epoch with these scores."""
        return self.config.architecture(name)

    def exported_as(self) -> dict[str, str]:
        """Return the names of the files (without suffix) by the names of the networks."""
        # A user's own is called module:name.
        (first, *others), network = self.exported, self.config.network.rpartition(":")[2]
        return {first: network} | {name: f"{network}-{name}" for name in others}
