"""The super-resolution GAN of Hemmati et al. 2022: its run, presets, steps.

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
from functools import partial
from typing import Any, Self

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
from raydeblend.train.adversarial import adversarial_loss, discriminator_loss
from raydeblend.train.config import RunConfig, check_choice, learning_rate_at
from raydeblend.train.epoch import descend
from raydeblend.train.family import Family, Step
from raydeblend.train.srgan_data import PairBatch, PairRecipe, SharpPool, make_pool, pair_stream
from raydeblend.train.srgan_scores import draw_pairs, pair_scores
from raydeblend.train.state import Scalars, TrainState, start_state, update_averages

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


def check(config: SrganRun, root: str) -> None:
    """Raise ConfigError unless the folder of real galaxies can be used."""
    if config.data is not None:
        load_hst(config.data, limit=1)
    if config.srgan_weights is not None:
        _first_generator(config)


def prepare(config: SrganRun, root: str) -> tuple[str, ...]:
    """Draw and read the single galaxies, once for one configuration; return the file's path."""
    path = storage.join(root, f"sharp-{_data_hash(config)}.npz")
    if not storage.exists(path):
        galaxies = make_galaxies(config)
        buffer = io.BytesIO()
        np.savez(buffer, images=galaxies.images, galaxy=galaxies.galaxy)
        storage.write_bytes(path, buffer.getvalue())
    return (path,)


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


def _read(config: SrganRun, paths: Sequence[str], validation: bool) -> SharpPool:
    with np.load(io.BytesIO(storage.read_bytes(paths[0])), allow_pickle=False) as arrays:
        galaxies = SharpGalaxies(arrays["images"], arrays["galaxy"], config.bands)
    rows = galaxies.is_validation == validation
    chosen = SharpGalaxies(galaxies.images[rows], galaxies.galaxy[rows], galaxies.bands)
    return make_pool(chosen, config.recipe)


def load(
    config: SrganRun, paths: Sequence[str], rank: int, world: int, device: torch.device
) -> SharpPool:
    """Return the galaxies to train on; all workers have all of them and blend them differently."""
    return _read(config, paths, validation=False).to(device)


def load_validation(config: SrganRun, paths: Sequence[str], device: torch.device) -> SharpPool:
    """Return the galaxies kept for validation."""
    return _read(config, paths, validation=True).to(device)


def start(config: SrganRun, device: torch.device) -> TrainState:
    """Return the state before the first epoch."""
    torch.manual_seed(config.seed)
    networks: dict[str, nn.Module] = {
        "generator": _first_generator(config),
        "discriminator": Critic(config.critic),
    }
    averaged = ("generator",) if config.ema else ()
    return start_state(networks, partial(_optimizer, config), device, averaged)


def _first_generator(config: SrganRun) -> Srgan:
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


def _optimizer(config: SrganRun, network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(
        network.parameters(), config.learning_rate, betas=(config.momentum, 0.999)
    )


def make_steps(
    config: SrganRun,
    state: TrainState,
    networks: Mapping[str, nn.Module],
    pool: SharpPool,
    n: int,
    seed: int,
) -> Step:
    """Return the step function of one epoch."""
    stream = pair_stream(pool, n, config.recipe, seed)

    def step(number: int) -> dict[str, Tensor]:
        scalars = srgan_step(config, state, networks, next(stream), number)
        update_averages(state, config.ema, number)
        return scalars

    return step


def srgan_step(
    config: SrganRun,
    state: TrainState,
    networks: Mapping[str, nn.Module],
    batch: PairBatch,
    number: int,
) -> dict[str, Tensor]:
    """Update the discriminator once and the generator once; return detached losses ``()``."""
    rate = learning_rate_at(config, number)
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
        scalars |= _step_critic(config, state, networks["discriminator"], (low, real, fake), rate)
        adversarial = _adversarial(config, state.networks["discriminator"], low, real, fake)
        scalars["loss"] = scalars["loss"] + config.adversarial_weight * adversarial
        scalars["loss_adversarial"] = adversarial
    descend(state.optimizers["generator"], scalars["loss"], rate, config.clip)
    return {name: value.detach() for name, value in scalars.items()}


def source_loss(logits: Tensor, xy: Tensor) -> Tensor:
    """Return the mean cross entropy of the map of sources, 0 at best, of ``(n, 1, y, x)`` logits.

    The entropy of the target, which no network can lower, is taken off.
    """
    target = source_target(xy, (logits.shape[2], logits.shape[3]))
    least = torch.special.xlogy(target, target) + torch.special.xlogy(1 - target, 1 - target)
    loss: Tensor = binary_cross_entropy_with_logits(logits, target) + least.mean()
    return loss


def _step_critic(
    config: SrganRun,
    state: TrainState,
    critic: nn.Module,
    images: tuple[Tensor, Tensor, Tensor],
    rate: float,
) -> dict[str, Tensor]:
    low, real, fake = images
    loss = discriminator_loss(*judge(critic, low, real, fake.detach()))
    descend(state.optimizers["discriminator"], loss, config.critic_rate * rate, config.clip)
    return {"loss_discriminator": loss}


def _adversarial(
    config: SrganRun, critic: nn.Module, low: Tensor, real: Tensor, fake: Tensor
) -> Tensor:
    """Return the generator's loss, with a graph through the discriminator but not to it."""
    critic.requires_grad_(False)
    _, logits = judge(critic, low, real, fake)
    critic.requires_grad_(True)
    return adversarial_loss(logits, config.adversarial)


def judge(critic: nn.Module, low: Tensor, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits ``(n,)`` of the real and of the generated pairs.

    Both go through together, so that batch normalisation sees the same mixture in both steps.
    """
    pairs = torch.cat([pair_channels(low, real), pair_channels(low, fake)])
    logits_real, logits_fake = forward(critic, pairs).chunk(2)
    return logits_real, logits_fake


def validate(config: SrganRun, state: TrainState, pool: SharpPool) -> Scalars:
    """Return the scores on galaxies never trained on; see `srgan_scores`."""
    networks = state.final("generator"), state.networks["discriminator"]
    return pair_scores(*networks, pool, config.recipe, config.scaling, config.validation)


def picture(config: SrganRun, state: TrainState, pool: SharpPool) -> Tensor:
    """Draw low resolution, network's and HST's image of a few held-out blends, a row each."""
    return draw_pairs(state.final("generator"), pool, config.recipe, config.scaling)


FAMILY: Family[Any, Any, Any] = Family(
    exported=("generator",),
    check=check,
    prepare=prepare,
    load=load,
    load_validation=load_validation,
    start=start,
    steps=make_steps,
    validate=validate,
    picture=picture,
)
