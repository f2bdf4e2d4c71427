"""The super-resolution GAN of Hemmati et al. 2022: its run, presets and training.

The paper prints the losses' kind (minimax cross-entropy, Adam) but no batch, rate, number of
epochs or loss between the pair.  A conditional GAN trained on pairs needs one: here the mean
absolute difference of the stretched images, with the weight 100 of pix2pix (Isola et al. 2017,
section 3.1) in `paper`; rate and momentum are DCGAN's, which the paper follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from raydeblend.instruments import HST_BANDS
from raydeblend.networks.forward import forward
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.srgan import (
    Critic,
    CriticConfig,
    SrganConfig,
    pair_channels,
    source_target,
    stretch,
)
from raydeblend.train.adversarial import (
    adversarial_loss,
    discriminate,
    discriminator_loss,
    frozen,
)
from raydeblend.train.config import check_choice, learning_rate_at
from raydeblend.train.network_training import Networks
from raydeblend.train.sharp_run import SharpRun, SharpTraining, first_generator
from raydeblend.train.srgan_data import PairBatch, PairRecipe, SharpPool
from raydeblend.train.srgan_scores import draw_pairs, pair_scores
from raydeblend.train.state import Scalars, TrainState

ADVERSARIAL = ("minimax", "non_saturating")


@dataclass(frozen=True)
class SrganRun(SharpRun):
    """A run of `srgan` or `srgan-multiband`.

    Attributes
    ----------
    critic
        Size of the discriminator.
    content_weight, adversarial_weight
        Of the mean absolute difference, and of the generator's adversarial loss; without the
        latter (0) there is no discriminator's step.
    adversarial
        ``minimax`` (section 3) or ``non_saturating`` (Goodfellow et al. 2014, section 3).
    critic_rate
        Learning rate of the discriminator as a multiple of the generator's.
    momentum
        First of Adam's two; 0.5 for adversarial training (Radford et al. 2016).
    source_weight
        Of the mean cross entropy of the map of sources, where the network has one.
    """

    model: SrganConfig
    critic: CriticConfig = field(default_factory=CriticConfig)
    content_weight: float = 100.0
    adversarial_weight: float = 1.0
    adversarial: str = "minimax"
    critic_rate: float = 1.0
    momentum: float = 0.5
    source_weight: float = 1.0

    def describe_data(self) -> str:
        """Return which galaxies, and where the paper was silent."""
        return (
            f"{super().describe_data()}; not printed by the paper and chosen here: the network's "
            "widths and depths, the content loss (mean absolute difference), rates, batch"
        )

    def fitted(self) -> Self:
        """Return this with the networks' channels as `bands` ask for."""
        bands = len(self.bands)
        return replace(
            self, model=replace(self.model, bands=bands), critic=replace(self.critic, bands=bands)
        )

    def check(self) -> None:
        """Raise ConfigError if a choice is unknown or a number is out of range."""
        super().check()
        check_choice("adversarial", self.adversarial, ADVERSARIAL)


_PAPER = SrganRun(
    "srgan", "paper", SrganConfig(), 64, 500, 200, 2e-4,
    bands=("F775W",),
    scaling=Scaling("asinh", 12.0),
    validation=512,
    grace=5,
)  # fmt: skip
_SMALL = replace(
    _PAPER,
    preset="small",
    batch=16,
    steps=500,
    epochs=36,
    learning_rate=1e-3,
    schedule="cosine",
    warmup=100,
    clip=1.0,
    ema=0.998,
    model=SrganConfig(
        features=48, blocks=6, fine_features=24, fine_layers=1, norm=False, skip=True, sources=True
    ),
    critic=CriticConfig(features=12, layers=4, norm=False),
    recipe=PairRecipe(brighten=1.0),
    content_weight=1.0,
    adversarial_weight=1e-3,
    adversarial="non_saturating",
    critic_rate=0.3,
    validation=256,
)
_TINY = replace(
    _PAPER,
    preset="tiny",
    batch=8,
    steps=6,
    epochs=2,
    learning_rate=2e-3,
    clip=1.0,
    model=SrganConfig(
        features=8, blocks=1, fine_features=8, fine_layers=1, skip=True, sources=True
    ),
    critic=CriticConfig(features=4, layers=3),
    n_galaxies=64,
    recipe=PairRecipe(seeing=(1.0, 1.0, 1)),
    content_weight=10.0,
    validation=8,
)
PRESETS: Mapping[str, SrganRun] = {"paper": _PAPER, "small": _SMALL, "tiny": _TINY}
MULTIBAND_PRESETS: Mapping[str, SrganRun] = {
    name: replace(preset, network="srgan-multiband", bands=HST_BANDS)
    for name, preset in PRESETS.items()
}


class SrganTraining(SharpTraining[SrganRun]):
    """Train generator and discriminator on pairs of low and high resolution (section 3)."""

    exported: ClassVar[tuple[str, ...]] = ("generator",)
    columns: ClassVar[tuple[str, ...]] = ("survey", "network", "HST")

    def build(self) -> dict[str, nn.Module]:
        """Return the generator to start from, and the discriminator at random."""
        return {
            "generator": first_generator(self.config, self.config.model),
            "discriminator": Critic(self.config.critic),
        }

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return Adam."""
        rate, betas = self.config.learning_rate, (self.config.momentum, 0.999)
        return torch.optim.Adam(network.parameters(), rate, betas=betas)

    def update(
        self,
        state: TrainState,
        networks: Networks,
        batch: PairBatch,
        number: int,
        generator: torch.Generator,
    ) -> dict[str, Tensor]:
        """Update the discriminator once and the generator once; return detached losses ``()``."""
        config, rate = self.config, learning_rate_at(self.config, number)
        low, _ = config.scaling.apply(batch.low)
        real = stretch(batch.high, config.scaling.softening)
        output = forward(networks["generator"], low)
        fake = output[:, : real.shape[1]]
        content = (fake - real).abs().mean()
        scalars = {"loss": config.content_weight * content, "loss_content": content}
        if config.model.sources:
            scalars["loss_sources"] = source_loss(output[:, -1:], batch.xy)
            scalars["loss"] = scalars["loss"] + config.source_weight * scalars["loss_sources"]
        if config.adversarial_weight:
            pairs = pair_channels(low, real), pair_channels(low, fake)
            scalars |= self._oppose(state, networks, pairs, rate)
            adversarial = config.adversarial_weight * scalars["loss_adversarial"]
            scalars["loss"] = scalars["loss"] + adversarial
        self.descend(state, "generator", scalars["loss"], rate)
        return {name: value.detach() for name, value in scalars.items()}

    def _oppose(
        self, state: TrainState, networks: Networks, pairs: tuple[Tensor, Tensor], rate: float
    ) -> dict[str, Tensor]:
        """Update the discriminator; return its loss and the generator's adversarial one."""
        real, fake = pairs
        logits = discriminate(networks["discriminator"], real, fake.detach())
        loss = discriminator_loss(*logits)
        self.descend(state, "discriminator", loss, self.config.critic_rate * rate)
        critic = state.networks["discriminator"]
        with frozen(critic):
            _, fake_logits = discriminate(critic, real, fake)
        adversarial = adversarial_loss(fake_logits, self.config.adversarial)
        return {"loss_discriminator": loss, "loss_adversarial": adversarial}

    def validate(self, state: TrainState, held_out: SharpPool) -> Scalars:
        """Return the scores on galaxies never trained on; see `srgan_scores`."""
        config, networks = self.config, (state.final("generator"), state.networks["discriminator"])
        return pair_scores(*networks, held_out, config.recipe, config.scaling, config.validation)

    def picture(self, state: TrainState, held_out: SharpPool) -> Tensor:
        """Draw low resolution, network's and HST's image of a few held-out blends, a row each."""
        config = self.config
        return draw_pairs(state.final("generator"), held_out, config.recipe, config.scaling)


def source_loss(logits: Tensor, xy: Tensor) -> Tensor:
    """Return the mean cross entropy of the map of sources, 0 at best, of ``(n, 1, y, x)`` logits.

    The entropy of the target, which no network can lower, is taken off.
    """
    target = source_target(xy, (logits.shape[2], logits.shape[3]))
    least = torch.special.xlogy(target, target) + torch.special.xlogy(1 - target, 1 - target)
    loss: Tensor = binary_cross_entropy_with_logits(logits, target) + least.mean()
    return loss
