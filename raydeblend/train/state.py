"""What a run carries from step to step, and how that becomes a checkpoint and comes back."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from raydeblend import storage
from raydeblend.errors import ConfigError

Scalars = dict[str, float]

DAMAGED = (
    *storage.READ_ERRORS,
    RuntimeError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    EOFError,
    pickle.UnpicklingError,
)
"""What torch raises for a file that is cut off or holds something else."""
MEMORY_OF_THE_START = 10
"""The averages forget the random start as if they were over the last ``step / 10`` steps."""


@dataclass
class TrainState:
    """Everything that a checkpoint holds.

    Attributes
    ----------
    networks
        What is trained, by name, on the device: ``{"generator": ..., "discriminator": ...}``.
    averages
        Running means of the weights of some of them, by the same names.
    optimizers
        By the same names.  Learning rates follow from the step number alone, so that a schedule
        has no state of its own.
    history
        Scores of each epoch done.
    best
        Copies of networks from the epoch with the best score, see `keep_best`; by the same names.
    """

    networks: dict[str, nn.Module]
    averages: dict[str, nn.Module]
    optimizers: dict[str, Optimizer]
    history: list[Scalars] = field(default_factory=list)
    best: dict[str, nn.Module] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    def final(self, name: str) -> nn.Module:
        """Return the network to validate: the average, where there is one."""
        return self.averages.get(name, self.networks[name])

    def exported(self, name: str) -> nn.Module:
        """Return the network to export: that of the best epoch, where one is kept."""
        return self.best.get(name, self.final(name))


def start_state(
    networks: dict[str, nn.Module],
    make_optimizer: Callable[[nn.Module], Optimizer],
    device: torch.device,
    averaged: tuple[str, ...] = (),
) -> TrainState:
    """Return the state before the first epoch, with an optimizer for each network.

    The caller seeds torch before it builds the networks, so that every worker starts the same.
    """
    for network in networks.values():
        network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TrainState(
        networks=networks,
        averages={name: copy.deepcopy(networks[name]) for name in averaged},
        optimizers={name: make_optimizer(network) for name, network in networks.items()},
    )


def best_epoch(history: Sequence[Scalars], score: str | None) -> int:
    """Return the last epoch, from 0, whose `score` is lowest; without `score` the last of all."""
    if score is None:
        return len(history) - 1
    return min(reversed(range(len(history))), key=lambda epoch: history[epoch][score])


def keep_best(state: TrainState, names: Iterable[str], score: str | None) -> None:
    """Keep copies of these networks if the last epoch is the best; without `score` none."""
    if score is not None and best_epoch(state.history, score) == state.epoch - 1:
        state.best = {name: copy.deepcopy(state.final(name)) for name in names}


def update_averages(state: TrainState, decay: float, step: int) -> None:
    """Move all averages after step number `step`, from 0 over all epochs."""
    # Short memory at first, so that the random start is forgotten.
    early = (step + 1) / (step + MEMORY_OF_THE_START)
    for name, average in state.averages.items():
        update_average(average, state.networks[name], min(decay, early))


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the averaged weights (and buffers) a step towards the network's."""
    for mean, value in zip(_tensors(average), _tensors(network), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def _tensors(network: nn.Module) -> Iterable[Tensor]:
    return network.state_dict().values()


def save_state(state: TrainState, path: str) -> None:
    """Write a state to a local file, with that of the random numbers."""
    content = {
        "networks": _state_dicts(state.networks),
        "averages": _state_dicts(state.averages),
        "optimizers": {name: each.state_dict() for name, each in state.optimizers.items()},
        "history": state.history,
        "best": _state_dicts(state.best),
        "random": torch.get_rng_state(),
    }
    torch.save(content, path)


def load_state(state: TrainState, path: str) -> None:
    """Replace the content of `state` by that of a file from `save_state`, local or on s3.

    Raises
    ------
    ConfigError
        If the file is damaged, or of other networks.
    """
    try:
        data = io.BytesIO(storage.read_bytes(path))
        content = torch.load(data, map_location="cpu", weights_only=True)
        for kind in ("networks", "averages", "optimizers"):
            own = getattr(state, kind)
            if set(own) != set(content[kind]):
                raise ConfigError(f"{path} is the checkpoint of other networks: {kind} differ")
            for name, each in own.items():
                each.load_state_dict(content[kind][name])
        state.history = content["history"]
        state.best = {name: copy.deepcopy(state.final(name)) for name in content["best"]}
        for name, each in state.best.items():
            each.load_state_dict(content["best"][name])
        torch.set_rng_state(content["random"])
    except ConfigError:
        raise
    except DAMAGED as error:
        raise ConfigError(f"{path} is not a checkpoint of this run: {_first(error)}") from error


def _state_dicts(networks: dict[str, nn.Module]) -> dict[str, object]:
    return {name: network.state_dict() for name, network in networks.items()}


def _first(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
