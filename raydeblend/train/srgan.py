"""The super-resolution GAN of Hemmati et al. 2022: its run, presets and training.

The paper prints the losses' kind (minimax cross-entropy, Adam) but no batch, rate, number of
epochs or loss between the pair.  A conditional GAN trained on pairs needs one: here the mean
absolute difference of the stretched images, with the weight 100 of pix2pix (Isola et al. 2017,
section 3.1) in `paper`; rate and momentum are DCGAN's, which the paper follows.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.instruments import FACTOR, FINE_SCALE, HST_BANDS, check_hst_bands
from raydeblend.networks.forward import forward
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.srgan import (
    Critic,
    CriticConfig,
    Srgan,
    SrganConfig,
    pair_channels,
    source_target,
    stretch,
    widened,
)
from raydeblend.networks.weights import load_weights, weights_path
from raydeblend.simulate.hst import load_hst
from raydeblend.simulate.sharp import SharpGalaxies, draw_sharp, join, real_sharp
from raydeblend.simulate.sharp_blends import reference_band
from raydeblend.train.adversarial import (
    adversarial_loss,
    discriminate,
    discriminator_loss,
    frozen,
)
from raydeblend.train.config import RunConfig, check_choice, learning_rate_at
from raydeblend.train.epoch import Step
from raydeblend.train.network_training import Networks, NetworkTraining
from raydeblend.train.srgan_data import PairBatch, PairRecipe, SharpPool, compose_pairs, make_pool
from raydeblend.train.srgan_scores import draw_pairs, pair_scores
from raydeblend.train.state import Scalars, TrainState, update_averages
from raydeblend.train.streams import RandomStream, ResumableStep

ADVERSARIAL = ("minimax", "non_saturating")
SHARP_SIZE = 72
"""Side of the single galaxies in fine pixels, 4.3 arcsec."""


@dataclass(frozen=True)
class SrganRun(RunConfig):
    """A run of `srgan` or `srgan-multiband`.

    Attributes
    ----------
    critic
        Size of the discriminator.
    data
        Folder of real HST galaxies (see `raydeblend.simulate.hst`); None: parametric ones only.
    n_galaxies, real_fraction, faint
        Images of single galaxies; which part of them are real where there is `data`; their
        faintest i magnitude (AB).
    recipe
        How they are blended and degraded.
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
    srgan_weights
        Shipped name or file of a generator to start from, of as many bands or of one (`widened`);
        layers that it lacks start at random.
    """

    model: SrganConfig
    critic: CriticConfig = field(default_factory=CriticConfig)
    data: str | None = None
    n_galaxies: int = 6000
    real_fraction: float = 0.5
    faint: float = 25.2
    recipe: PairRecipe = field(default_factory=PairRecipe)
    content_weight: float = 100.0
    adversarial_weight: float = 1.0
    adversarial: str = "minimax"
    critic_rate: float = 1.0
    momentum: float = 0.5
    source_weight: float = 1.0
    srgan_weights: str | None = None

    def pixel_scale(self) -> tuple[float, float]:
        """Arcsec per pixel of the input."""
        return FACTOR * FINE_SCALE, FACTOR * FINE_SCALE

    def describe_data(self) -> str:
        """Return which galaxies, and where the paper was silent."""
        percent = round(100 * self.real_fraction) if self.data else 0
        return (
            f"blends of up to three of {self.n_galaxies} galaxies, {percent} % of them real HST "
            f"stamps, i < {self.faint}, degraded to HSC's PSF, 0.18 arcsec and depth; not printed "
            "by the paper and chosen here: the network's widths and depths, the content loss (mean "
            "absolute difference), rates, batch"
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
        check_hst_bands(self.bands)
        check_choice("adversarial", self.adversarial, ADVERSARIAL)
        if self.n_galaxies < 32:
            raise ConfigError(f"n_galaxies must be at least 32, not {self.n_galaxies}")
        if not 0 <= self.real_fraction <= 1:
            raise ConfigError(f"real_fraction must be 0 to 1, not {self.real_fraction}")


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


class SrganTraining(NetworkTraining[SrganRun, SharpPool, SharpPool]):
    """Train generator and discriminator on pairs of low and high resolution (section 3)."""

    exported: ClassVar[tuple[str, ...]] = ("generator",)
    columns: ClassVar[tuple[str, ...]] = ("survey", "network", "HST")

    def check(self, root: str) -> None:
        """Raise ConfigError unless the real galaxies and the weights to start from can be used."""
        if self.config.data is not None:
            load_hst(self.config.data, limit=1)
        if self.config.srgan_weights is not None:
            first_generator(self.config)

    def prepare(self, root: str) -> tuple[str, ...]:
        """Draw and read the single galaxies, once for one configuration; return the file's path."""
        path = storage.join(root, f"sharp-{_data_hash(self.config)}.npz")
        if not storage.exists(path):
            galaxies = make_galaxies(self.config)
            buffer = io.BytesIO()
            np.savez(buffer, images=galaxies.images, galaxy=galaxies.galaxy)
            storage.write_bytes(path, buffer.getvalue())
        return (path,)

    def load(self, paths: Sequence[str], rank: int, world: int, device: torch.device) -> SharpPool:
        """Return all galaxies to train on; each worker blends them differently."""
        return self._read(paths[0], validation=False).to(device)

    def load_validation(self, paths: Sequence[str], device: torch.device) -> SharpPool:
        """Return the galaxies kept for validation."""
        return self._read(paths[0], validation=True).to(device)

    def _read(self, path: str, validation: bool) -> SharpPool:
        with np.load(io.BytesIO(storage.read_bytes(path)), allow_pickle=False) as arrays:
            galaxies = SharpGalaxies(arrays["images"], arrays["galaxy"], self.config.bands)
        rows = galaxies.is_validation == validation
        chosen = SharpGalaxies(galaxies.images[rows], galaxies.galaxy[rows], galaxies.bands)
        return make_pool(chosen, self.config.recipe)

    def build(self) -> dict[str, nn.Module]:
        """Return the generator to start from, and the discriminator at random."""
        return {
            "generator": first_generator(self.config),
            "discriminator": Critic(self.config.critic),
        }

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return Adam."""
        rate, betas = self.config.learning_rate, (self.config.momentum, 0.999)
        return torch.optim.Adam(network.parameters(), rate, betas=betas)

    def steps(
        self, state: TrainState, networks: Networks, data: SharpPool, n: int, seed: int
    ) -> Step:
        """Return the step function of one epoch."""
        generator = torch.Generator(data.images.device).manual_seed(seed)

        def step(number: int) -> dict[str, Tensor]:
            batch = compose_pairs(data, n, self.config.recipe, generator)
            scalars = self.update(state, networks, batch, number)
            update_averages(state, self.config.ema, number)
            return scalars

        return ResumableStep(step, RandomStream(generator))

    def update(
        self, state: TrainState, networks: Networks, batch: PairBatch, number: int
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


def _data_hash(config: SrganRun) -> str:
    """Return the hash of all that the single galaxies depend on."""
    names = ("bands", "data", "n_galaxies", "real_fraction", "faint", "seed")
    values = [SHARP_SIZE, *(getattr(config, name) for name in names)]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:12]


def make_galaxies(config: SrganRun) -> SharpGalaxies:
    """Return the single galaxies of a run."""
    rng = np.random.default_rng(config.seed)
    real = round(config.real_fraction * config.n_galaxies) if config.data else 0
    parts = [draw_sharp(config.n_galaxies - real, config.bands, rng, SHARP_SIZE, config.faint)]
    if config.data and real:
        parts.append(real_sharp(real, config.data, config.bands, rng, SHARP_SIZE, config.faint))
    return join(parts)


def first_generator(config: SrganRun) -> Srgan:
    """Return a generator at random, or one that begins as earlier weights.

    Raises
    ------
    ConfigError
        If those weights are missing or of another size.
    """
    generator = Srgan(config.model)
    if config.srgan_weights is not None:
        earlier, card = load_weights(weights_path(config.srgan_weights))
        free = {"sources": 0} | ({"bands": 0} if card.architecture["bands"] == 1 else {})
        if dict(card.architecture) | free != asdict(config.model) | free:
            raise ConfigError(f"{config.srgan_weights} is not a network of this run's size")
        layers = earlier.state_dict()
        if card.architecture["bands"] < config.model.bands:
            layers = widened(layers, config.model.bands, reference_band(config.bands))
        generator.load_state_dict(layers, strict=False)
    return generator


def source_loss(logits: Tensor, xy: Tensor) -> Tensor:
    """Return the mean cross entropy of the map of sources, 0 at best, of ``(n, 1, y, x)`` logits.

    The entropy of the target, which no network can lower, is taken off.
    """
    target = source_target(xy, (logits.shape[2], logits.shape[3]))
    least = torch.special.xlogy(target, target) + torch.special.xlogy(1 - target, 1 - target)
    loss: Tensor = binary_cross_entropy_with_logits(logits, target) + least.mean()
    return loss
