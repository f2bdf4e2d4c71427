"""The GAN that draws galaxies from noise (Hemmati et al. 2022, section 3): run and training."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.instruments import FINE_SCALE, check_hst_bands
from raydeblend.networks.gan import COARSEST, Discriminator, GanConfig, Generator, sample
from raydeblend.networks.scaling import Scaling
from raydeblend.simulate.sharp import BRIGHTEST
from raydeblend.simulate.sky_stamps import StampConfig, describe, make_stamps, read_stamps
from raydeblend.train.adversarial import adversarial_loss, discriminate, discriminator_loss, frozen
from raydeblend.train.board import draw_columns
from raydeblend.train.config import RunConfig, check_choice, check_positive, learning_rate_at
from raydeblend.train.data import VALIDATION_SEED
from raydeblend.train.epoch import Step
from raydeblend.train.gan_data import GalaxyImages
from raydeblend.train.gan_scores import likeness_scores
from raydeblend.train.health import discriminator_scores, variety_scores
from raydeblend.train.network_training import Networks, NetworkTraining
from raydeblend.train.state import Scalars, TrainState, update_averages
from raydeblend.train.streams import RandomStream, ResumableStep

AdversarialLoss = Literal["minimax", "non-saturating"]

SCALING = Scaling("asinh", softening=8.0)
"""tanh's 0 is the sky, its 1 is sinh(8) = 1490 sky sigmas; brighter cores are cut there."""
ROWS = 8
"""Images in each column of the sample grid."""


@dataclass(frozen=True)
class GanRun(RunConfig):
    """A run of the GAN.

    Attributes
    ----------
    learning_rate, discriminator_rate
        Of generator and discriminator.
    beta_1
        Adam's memory of the mean gradient.
    adversarial
        The generator's loss: ``minimax`` (Goodfellow et al. 2014, equation 1), which the paper
        has, or ``non-saturating`` (end of their section 3), which also learns while the
        discriminator is sure.
    data
        Folder of HST stamps (see `raydeblend.simulate.hst.load_hst`); None: drawn galaxies only.
    n_galaxies, faint
        Galaxies to draw, and their faintest i magnitude.
    sky
        Whether the generator draws galaxies alone, to which the sky's noise is added before the
        discriminator sees them (Bora et al. 2018, AmbientGAN), as it is to the real ones; else it
        draws the noise too, as in the paper.
    """

    model: GanConfig
    discriminator_rate: float = 2e-4
    beta_1: float = 0.5
    adversarial: AdversarialLoss = "minimax"
    data: str | None = None
    n_galaxies: int = 3000
    faint: float = 24.5
    sky: bool = False

    def pixel_scale(self) -> tuple[float, float]:
        """Arcsec per pixel of the images."""
        return FINE_SCALE, FINE_SCALE

    def describe_data(self) -> str:
        """Return what the images show."""
        return describe(self.stamps())

    def stamps(self) -> StampConfig:
        """Return which stamps the run needs."""
        return StampConfig(
            self.bands, self.model.size, self.n_galaxies, self.faint, self.seed, self.data
        )

    def fitted(self) -> Self:
        """Return this with the channels that `bands` ask for."""
        return replace(self, model=replace(self.model, channels=len(self.bands)))

    def check(self) -> None:
        """Raise ConfigError if a band is unknown or a number out of range."""
        super().check()
        check_hst_bands(self.bands)
        check_positive("discriminator_rate", self.discriminator_rate)
        check_choice("adversarial loss", self.adversarial, ("minimax", "non-saturating"))
        if self.model.size != COARSEST * 2**self.model.doublings or self.model.doublings < 1:
            raise ConfigError(f"size must be {COARSEST} times a power of 2, not {self.model.size}")
        if self.n_galaxies < 16:
            raise ConfigError("n_galaxies must be at least 16: one in eight is validated on")
        if self.faint <= BRIGHTEST:
            raise ConfigError(f"faint must be beyond magnitude {BRIGHTEST:g}, not {self.faint}")


# Section 3: three thousand cutouts, minimax loss, Adam.  What is not printed is that of DCGAN
# (Radford et al. 2016, section 4): batches of 128, rate 2e-4, beta_1 0.5.
_PAPER = GanRun(
    "gan", "paper", GanConfig(), 128, 24, 500, 2e-4,
    bands=("F775W",), scaling=SCALING, validation=256, checkpoint_every=10, grace=10,
)  # fmt: skip
PRESETS: Mapping[str, GanRun] = {
    "paper": _PAPER,
    "small": replace(
        _PAPER,
        preset="small",
        model=GanConfig(features=16, spread=True),
        batch=32,
        steps=250,
        epochs=32,
        schedule="cosine",
        adversarial="non-saturating",
        bands=("F814W",),
        n_galaxies=6000,
        sky=True,
        ema=0.999,
        validation=1000,
        checkpoint_every=1,
        grace=3,
    ),
    "tiny": replace(
        _PAPER,
        preset="tiny",
        model=GanConfig(noise=16, features=4),
        batch=16,
        steps=12,
        epochs=3,
        adversarial="non-saturating",
        bands=("F814W",),
        n_galaxies=64,
        sky=True,
        validation=16,
        checkpoint_every=1,
        grace=3,
    ),
}


class GanTraining(NetworkTraining[GanRun, GalaxyImages, GalaxyImages]):
    """Train a generator of galaxies against a discriminator of images under the sky."""

    exported: ClassVar[tuple[str, ...]] = ("generator",)
    columns: ClassVar[tuple[str, ...]] = ("real",) * 2 + ("sample",) * 4
    # An adversarial run does not end where it is best.
    best: ClassVar[str | None] = "ks"

    def check(self, root: str) -> None:
        """Check that the folder of HST stamps is there."""
        if self.config.data is not None and not os.path.isdir(self.config.data):
            raise ConfigError(f"there is no folder {self.config.data} of HST stamps")

    def prepare(self, root: str) -> tuple[str, ...]:
        """Draw the galaxies and read the real ones, once for all workers."""
        return (make_stamps(storage.join(root, "hst"), self.config.stamps()),)

    def load(
        self, paths: Sequence[str], rank: int, world: int, device: torch.device
    ) -> GalaxyImages:
        """Return all training images; workers draw other ones from them."""
        return GalaxyImages.of(read_stamps(paths[0]).part("training"), device)

    def load_validation(self, paths: Sequence[str], device: torch.device) -> GalaxyImages:
        """Return at most `validation` images of galaxies that are never trained on."""
        galaxies = GalaxyImages.of(read_stamps(paths[0]).part("validation"), device)
        draw = torch.Generator(device).manual_seed(VALIDATION_SEED)
        rows = torch.randperm(len(galaxies.images), generator=draw, device=device)
        return galaxies.take(rows[: self.config.validation])

    def build(self) -> dict[str, nn.Module]:
        """Return both networks at random."""
        model = self.config.model
        return {"generator": Generator(model), "discriminator": Discriminator(model)}

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return Adam."""
        rate, betas = self.config.learning_rate, (self.config.beta_1, 0.999)
        return torch.optim.Adam(network.parameters(), rate, betas)

    def steps(
        self, state: TrainState, networks: Networks, data: GalaxyImages, n: int, seed: int
    ) -> Step:
        """Return the step function of one epoch: the discriminator, then the generator."""
        config = self.config
        draw = torch.Generator(data.images.device).manual_seed(seed)

        def step(number: int) -> dict[str, Tensor]:
            real = self.scale(data.draw(n, draw))
            fake = self.generate(networks["generator"], n, draw)
            logits = discriminate(networks["discriminator"], real, fake.detach())
            discriminated = discriminator_loss(*logits)
            rate = learning_rate_at(config, number, config.discriminator_rate)
            self.descend(state, "discriminator", discriminated, rate)
            # The wrapped discriminator would share gradients that nobody uses.
            with frozen(state.networks["discriminator"]):
                _, fake_logits = discriminate(state.networks["discriminator"], real, fake)
            loss = adversarial_loss(fake_logits, config.adversarial)
            self.descend(state, "generator", loss, learning_rate_at(config, number))
            update_averages(state, config.ema, number)
            return {"loss": loss.detach(), "loss_discriminator": discriminated.detach()}

        return ResumableStep(step, RandomStream(draw))

    def scale(self, images: Tensor) -> Tensor:
        """Return images in sky sigmas as the networks see them, -1..1."""
        return self.config.scaling.apply(images.float())[0].clamp(-1, 1)

    def generate(self, generator: nn.Module, n: int, draw: torch.Generator) -> Tensor:
        """Return `n` images as the discriminator sees them, with gradients."""
        noise = torch.randn((n, self.config.model.noise), generator=draw, device=draw.device)
        with torch.autocast(draw.device.type, torch.bfloat16):
            images: Tensor = generator(noise)
        return self.observe(images.float(), draw)

    def observe(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """Return what a telescope sees of the generator's images, if those show galaxies alone.

        The discriminator knows galaxies only under a sky; put on the generator's as well, with
        gradients through it, the sky is nothing that the generator must learn (Bora et al. 2018).
        """
        if not self.config.sky:
            return images
        sky = torch.randn(images.shape, generator=draw, device=images.device)
        return self.scale(self.config.scaling.invert(images) + sky)

    def validate(self, state: TrainState, held_out: GalaxyImages) -> Scalars:
        """Return the discriminator's opinion, how diverse samples are, and how like galaxies."""
        device = held_out.images.device
        draw = torch.Generator(device).manual_seed(VALIDATION_SEED)
        drawn = sample(state.final("generator"), len(held_out.images), VALIDATION_SEED, device)
        fake = self.observe(drawn, draw)
        galaxies = held_out.under_sky(draw)
        real = self.scale(galaxies)
        plain = self.scale(held_out.images) if self.config.sky else real
        return (
            discriminator_scores(state.networks["discriminator"], real, fake)
            | variety_scores(plain, drawn)
            | likeness_scores(galaxies, self.config.scaling.invert(fake))
        )

    def picture(self, state: TrainState, held_out: GalaxyImages) -> Tensor:
        """Draw two columns of real images next to four of samples."""
        device = held_out.images.device
        draw = torch.Generator(device).manual_seed(VALIDATION_SEED)
        real = self.scale(held_out.under_sky(draw))
        real = real.repeat(-(-2 * ROWS // len(real)), 1, 1, 1)[: 2 * ROWS]
        drawn = sample(state.final("generator"), 4 * ROWS, VALIDATION_SEED, device)
        images = torch.cat([real, self.observe(drawn, draw)])
        return draw_columns(list(torch.split(images, ROWS)), stretch=1.0)
