"""Epochs on one device, without Ray: what a run carries from step to step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn

from raydeblend.errors import ConfigError
from raydeblend.networks.weights import build_network, load_weights, shipped_path
from raydeblend.train.blends import IsolatedImages
from raydeblend.train.config import TrainConfig, learning_rate_at
from raydeblend.train.counting import Peel, count_batches, make_peel
from raydeblend.train.peeling import PeelStream
from raydeblend.train.steps import Scalars, counter_step, rdn_step, update_average

StepLoss = Callable[[nn.Module], Tensor]
"""Draws the next batch and returns the loss of a network on it."""


@dataclass
class TrainState:
    """Everything that a checkpoint holds.

    Attributes
    ----------
    average
        Running mean of the weights, or None where the configuration has none.
    history
        Scores of each epoch done.
    """

    network: nn.Module
    average: nn.Module | None
    optimizer: torch.optim.Optimizer
    history: list[Scalars] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    @property
    def final(self) -> nn.Module:
        """The network to validate and to export."""
        return self.network if self.average is None else self.average


def start_state(config: TrainConfig, device: torch.device) -> TrainState:
    """Return the state before the first epoch; the same for every worker."""
    torch.manual_seed(config.seed)
    network = build_network(config.network, asdict(config.model)).to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network) if config.ema else None
    return TrainState(network, average, _optimizer(network, config))


def _optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    parameters, rate, decay = network.parameters(), config.learning_rate, config.weight_decay
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, config.momentum, weight_decay=decay)
    return torch.optim.AdamW(parameters, rate, weight_decay=decay)


def save_state(state: TrainState, path: str) -> None:
    """Write a state to a local file."""
    content = {
        "network": state.network.state_dict(),
        "average": state.average.state_dict() if state.average is not None else None,
        "optimizer": state.optimizer.state_dict(),
        "history": state.history,
    }
    torch.save(content, path)


def load_state(state: TrainState, path: str) -> None:
    """Replace the content of `state` by that of a file from `save_state`."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    state.network.load_state_dict(content["network"])
    if state.average is not None:
        state.average.load_state_dict(content["average"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.history = content["history"]


def step_loss(
    config: TrainConfig, isolated: IsolatedImages, n: int, seed: int, peel: Peel | None = None
) -> StepLoss:
    """Return the loss of fresh batches of `n` images, by the step function of the network.

    `peel` is the deblender whose residuals a counter learns from too.
    """
    if config.network == "counter":
        return _counter_loss(config, isolated, n, seed, peel)
    return _rdn_loss(config, isolated, n, seed)


def _rdn_loss(config: TrainConfig, isolated: IsolatedImages, n: int, seed: int) -> StepLoss:
    stream = PeelStream(isolated, config.recipe, seed, config.residual_fraction)

    def loss(network: nn.Module) -> Tensor:
        batch = stream.draw(n)
        value, model, chosen = rdn_step(network, batch, config.scaling, config.loss)
        if config.residual_fraction:
            stream.feed_back(batch, model, chosen)
        return value

    return loss


def _counter_loss(
    config: TrainConfig, isolated: IsolatedImages, n: int, seed: int, peel: Peel | None
) -> StepLoss:
    batches = count_batches(isolated, config.recipe, n, seed, peel, config.residual_fraction)

    def loss(network: nn.Module) -> Tensor:
        batch = next(batches)
        value, _ = counter_step(network, batch.image, batch.n_sources, config.scaling)
        return value

    return loss


def load_peel(config: TrainConfig, device: torch.device) -> Peel | None:
    """Return the deblender named in the configuration of a counter, None where it has none.

    Raises
    ------
    ConfigError
        If there are no such weights, or they are of other bands.
    """
    if config.deblender is None:
        return None
    named = config.deblender.endswith(".safetensors")
    path = config.deblender if named else shipped_path(config.deblender)
    network, card = load_weights(path, device)
    if card.network != "rdn" or card.bands != config.bands:
        raise ConfigError(
            f"{path} is a {card.network} of {card.bands}, not an rdn of {config.bands}"
        )
    return make_peel(network, card.scaling)


def run_epoch(network: nn.Module, state: TrainState, loss: StepLoss, config: TrainConfig) -> Tensor:
    """Train one epoch and return its mean loss on this device, ``()``.

    `network` is that of the state, or its data-parallel wrapper, which averages the gradients.
    """
    network.train()
    first = state.epoch * config.steps
    losses = [
        train_step(network, state, loss, config, step)
        for step in range(first, first + config.steps)
    ]
    return torch.stack(losses).mean()


def train_step(
    network: nn.Module, state: TrainState, loss: StepLoss, config: TrainConfig, step: int
) -> Tensor:
    """Do one step of the optimizer; `step` counts from 0 over all epochs."""
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate_at(config, step)
    state.optimizer.zero_grad(set_to_none=True)
    value = loss(network)
    value.backward()  # type: ignore[no-untyped-call]
    if config.clip:
        nn.utils.clip_grad_norm_(network.parameters(), config.clip)
    state.optimizer.step()
    if state.average is not None:
        # Short memory at first, so that the random start is forgotten.
        update_average(state.average, state.network, min(config.ema, (step + 1) / (step + 10)))
    return value.detach()
