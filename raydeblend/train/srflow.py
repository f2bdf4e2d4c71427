"""Flow matching for super-resolution: its run, presets and training.

Hemmati et al. 2022 wish for it and print nothing about it; pairs, degradation and presets' batches
are those of `srgan`.  The loss is that of conditional flow matching on straight paths: the mean
squared difference between the network's velocity and ``x_1 - x_0`` (Lipman et al. 2023, equation
14; Liu et al. 2023, equation 1), at times that are uniform and stratified over a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from raydeblend.errors import ConfigError
from raydeblend.networks.forward import forward
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.srflow import Condition, Sampling, Srflow, SrflowConfig, target
from raydeblend.networks.srgan import SrganConfig, stretch
from raydeblend.train.config import learning_rate_at
from raydeblend.train.network_training import Networks
from raydeblend.train.sharp_run import SharpRun, SharpTraining, first_generator
from raydeblend.train.srflow_scores import draw_samples, sample_scores
from raydeblend.train.srgan_data import PairBatch, PairRecipe, SharpPool
from raydeblend.train.state import Scalars, TrainState

FLOW = "flow"


@dataclass(frozen=True)
class SrflowRun(SharpRun):
    """A run of `srflow`; `srgan_weights` are the generator's, without which it stays random.

    Attributes
    ----------
    draws
        Noises and times for each pair: the pair and the generator's image cost as much as a step.
    sampling
        How the validation samples.
    """

    model: SrflowConfig
    draws: int = 1
    sampling: Sampling = field(default_factory=Sampling)

    def describe_data(self) -> str:
        """Return which galaxies, and whose generator."""
        return f"{super().describe_data()}; the generator is {self.srgan_weights or 'random'}"

    def fitted(self) -> Self:
        """Return this with the networks' channels as `bands` ask for."""
        bands = len(self.bands)
        generator = replace(self.model.generator, bands=bands)
        return replace(self, model=replace(self.model, bands=bands, generator=generator))

    def check(self) -> None:
        """Raise ConfigError if a number is out of range."""
        super().check()
        if self.draws < 1:
            raise ConfigError(f"draws must be at least 1, not {self.draws}")


_SHIPPED_GENERATOR = SrganConfig(
    features=48, blocks=6, fine_features=24, fine_layers=1, norm=False, skip=True
)
_PAPER = SrflowRun(
    "srflow", "paper", SrflowConfig(widths=(128, 192, 256), generator=_SHIPPED_GENERATOR),
    64, 500, 200, 3e-4,
    schedule="cosine",
    warmup=500,
    clip=1.0,
    ema=0.999,
    bands=("F775W",),
    scaling=Scaling("asinh", 12.0),
    validation=256,
    srgan_weights="srgan",
)  # fmt: skip
_SMALL = replace(
    _PAPER,
    preset="small",
    batch=16,
    draws=2,
    epochs=40,
    learning_rate=1e-3,
    warmup=200,
    model=SrflowConfig(generator=_SHIPPED_GENERATOR),
    recipe=PairRecipe(brighten=1.0),
    validation=128,
)
_TINY = replace(
    _PAPER,
    preset="tiny",
    batch=8,
    steps=6,
    epochs=2,
    learning_rate=2e-3,
    warmup=0,
    model=SrflowConfig(
        widths=(16, 16),
        embedding=8,
        generator=SrganConfig(features=8, blocks=1, fine_features=8, fine_layers=1, skip=True),
    ),
    n_galaxies=64,
    recipe=PairRecipe(seeing=(1.0, 1.0, 1)),
    srgan_weights=None,
    validation=8,
    sampling=Sampling(samples=4, steps=2),
)
PRESETS: Mapping[str, SrflowRun] = {"paper": _PAPER, "small": _SMALL, "tiny": _TINY}


class SrflowTraining(SharpTraining[SrflowRun]):
    """Train the velocity on pairs of low and high resolution."""

    exported: ClassVar[tuple[str, ...]] = (FLOW,)
    columns: ClassVar[tuple[str, ...]] = ("survey", "GAN", "sample 1", "sample 2", "mean", "HST")

    def build(self) -> dict[str, nn.Module]:
        """Return a network whose velocity is random, around the generator to start from."""
        network = Srflow(self.config.model)
        generator = first_generator(self.config, self.config.model.generator)
        network.generator.load_state_dict(generator.state_dict())
        return {FLOW: network}

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return Adam for all but the frozen generator."""
        learned = [p for p in network.parameters() if p.requires_grad]
        return torch.optim.Adam(learned, self.config.learning_rate)

    def update(
        self,
        state: TrainState,
        networks: Networks,
        batch: PairBatch,
        number: int,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Update the velocity once; noise and times are drawn from `generator`."""
        config, flow = self.config, cast(Srflow, state.networks[FLOW])
        low, _ = config.scaling.apply(batch.low)
        condition = flow.condition(low)
        end = target(flow, condition, stretch(batch.high, config.scaling.softening))
        loss = matching_loss(networks[FLOW], condition, end, config.draws, generator)
        self.descend(state, FLOW, loss, learning_rate_at(config, number))
        return {"loss": loss.detach()}

    def validate(self, state: TrainState, held_out: SharpPool) -> Scalars:
        """Return the scores on galaxies never trained on; see `srflow_scores`."""
        config, network = self.config, cast(Srflow, state.final(FLOW))
        options = (config.recipe, config.scaling, config.validation, config.sampling)
        return sample_scores(network, held_out, *options)

    def architecture(self, name: str, scores: Scalars) -> dict[str, Any]:
        """Return the network's configuration with the inflation that validation measured."""
        return super().architecture(name, scores) | {"inflation": scores["inflation"]}

    def picture(self, state: TrainState, held_out: SharpPool) -> Tensor:
        """Draw low resolution, generator, samples, their mean and HST's image, a row each."""
        config, network = self.config, cast(Srflow, state.final(FLOW))
        return draw_samples(network, held_out, config.recipe, config.scaling, config.sampling)


def matching_loss(
    network: nn.Module,
    condition: Condition,
    end: Tensor,
    draws: int,
    generator: torch.Generator,
) -> Tensor:
    """Return the mean squared error ``()`` of the velocity on `draws` paths to each end.

    Parameters
    ----------
    end
        ``(n, bands, 3 y, 3 x)``, the x_1 of `raydeblend.networks.srflow`.
    """
    end, channels = end.repeat(draws, 1, 1, 1), condition.channels.repeat(draws, 1, 1, 1)
    device, n = end.device, len(end)
    noise = torch.randn(end.shape, generator=generator, device=device)
    strata = torch.randperm(n, generator=generator, device=device)
    time = (strata + torch.rand(n, generator=generator, device=device)) / n
    at = time[:, None, None, None]
    velocity = forward(network, (1 - at) * noise + at * end, time, channels)
    return (velocity - (end - noise)).square().mean()
