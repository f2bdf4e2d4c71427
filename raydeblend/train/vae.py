"""The autoencoders of Nemani et al. 2023: their runs, presets and training.

`vae` learns to reconstruct isolated galaxies; `vae-deblend` learns, behind the frozen decoder of
`vae`, to encode the galaxy in the middle of a blend (section 1 of the paper).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.vae import Vae, VaeConfig, freeze_decoder
from raydeblend.networks.weights import load_card, load_weights, shipped_weights, weights_path
from raydeblend.simulate.euclid import BANDS as EUCLID_BANDS
from raydeblend.simulate.euclid import FAINT as EUCLID_FAINT
from raydeblend.simulate.euclid import SURVEY as EUCLID
from raydeblend.simulate.euclid_shards import EuclidConfig, check_euclid, render_euclid_shards
from raydeblend.survey import get_survey
from raydeblend.train.blends import IsolatedImages
from raydeblend.train.board import draw_columns
from raydeblend.train.config import RunConfig, check_choice, learning_rate_at
from raydeblend.train.data import VALIDATION_CHUNK, VALIDATION_SEED
from raydeblend.train.epoch import Step
from raydeblend.train.isolated import (
    BlendRun,
    check_shards,
    load_held_out,
    load_share,
    render_shards,
)
from raydeblend.train.network_training import Networks, NetworkTraining
from raydeblend.train.state import Scalars, TrainState, update_averages
from raydeblend.train.streams import RandomStream, ResumableStep
from raydeblend.train.vae_blends import CenteredBatch, CenteredRecipe, compose_centered
from raydeblend.train.vae_passes import second_pass
from raydeblend.train.vae_steps import VaeLoss, encode_decode, vae_scores, vae_step

IMAGES = ("euclid", "survey")
SURVEY_BANDS, SURVEY_FAINT = ("g", "r", "i"), 25.3
STAGE_ONE = {"euclid": "vae-euclid", "survey": "vae"}
"""Names under which the weights of stage one are shipped."""
EUCLID_SIZE = 80
"""Side of the isolated VIS images: wings of a galaxy in the annulus reach the other side."""
EXAMPLES = 8


@dataclass(frozen=True)
class VaeRun(RunConfig):
    """A run of either stage.

    Attributes
    ----------
    images
        ``euclid``: VIS, one band.  ``survey``: the isolated images that `rdn` is trained on.
    surveys
        Whose images, for ``survey``.
    catalog
        Galaxies to draw: COSMOS Sérsic fits for ``euclid``, CatSim for ``survey``; None: from
        published distributions.
    held_out
        A test set whose galaxies are left out of a CatSim catalog.
    data, realistic
        Folder of HST galaxies, and the part of the VIS images that is theirs.
    faint
        Faintest magnitude; None: 24.5 for ``euclid``, i = 25.3 for ``survey``.
    n_galaxies, group
        Isolated galaxies to render, and how many are in one shard.
    recipe, loss
        How images are composed, and what the output is compared with.
    weight_decay
        Decoupled, of Adam.
    vae_weights
        Of stage one, for stage two; None: the shipped ones, except for ``paper``.  Those of
        stage two are trained further.
    warm_start
        Start the encoder of stage two from that of these weights, not anew.
    """

    model: VaeConfig
    images: str = "euclid"
    bands: tuple[str, ...] = EUCLID_BANDS
    surveys: tuple[str, ...] = ("LSST", "HSC")
    catalog: str | None = None
    held_out: str | None = None
    data: str | None = None
    realistic: float = 0.2
    faint: float | None = None
    n_galaxies: int = 150_000
    group: int = 500
    recipe: CenteredRecipe = field(default_factory=CenteredRecipe)
    loss: VaeLoss = field(default_factory=VaeLoss)
    weight_decay: float = 0.0
    vae_weights: str | None = None
    warm_start: bool = False

    def pixel_scale(self) -> tuple[float, float]:
        """Arcsec per pixel of the surveys, smallest and largest."""
        surveys = (EUCLID,) if self.images == "euclid" else self.surveys
        scales = [get_survey(survey).pixel_scale for survey in surveys]
        return min(scales), max(scales)

    def describe_data(self) -> str:
        """Return how many galaxies of which kind."""
        if self.images == "survey":
            return as_blend_run(self).describe_data()
        galaxies = os.path.basename(self.catalog) if self.catalog else "drawn galaxies"
        real = f", {self.realistic:.0%} of them HST galaxies" if self.data else ""
        return f"{EUCLID}: {self.n_galaxies} images of {galaxies}{real}, mag < {self.faint}"

    def check(self) -> None:
        """Raise ConfigError if the images are unknown, or a number is out of range."""
        check_choice("images", self.images, IMAGES)
        super().check()
        as_blend_run(self.fitted_to_images()).check()
        side = self.model.downscale * 2 ** len(self.model.filters)
        if self.model.stamp % side:
            raise ConfigError(f"stamp must be a multiple of {side}, not {self.model.stamp}")
        if not 0 < self.recipe.annulus[0] < self.recipe.annulus[1] <= self.model.stamp // 2:
            raise ConfigError(f"annulus must grow and fit the stamp, not {self.recipe.annulus}")

    def fitted(self) -> Self:
        """Return this with what follows from `images`, `bands` and the weights of stage one."""
        run = self.fitted_to_images()
        stamp = replace(run.recipe, stamp=run.model.stamp)
        run = replace(run, model=replace(run.model, bands=len(run.bands)), recipe=stamp)
        if run.network != "vae-deblend":
            return run
        name = run.vae_weights
        if name is None and run.preset != "paper" and STAGE_ONE[run.images] in shipped_weights():
            name = STAGE_ONE[run.images]
        if name is None:
            return run
        # The decoder is that of stage one, and the new encoder is built as its encoder was.
        model = VaeConfig(**load_card(weights_path(name)).architecture)
        recipe = replace(run.recipe, stamp=model.stamp)
        return replace(run, vae_weights=name, model=model, recipe=recipe)

    def fitted_to_images(self) -> Self:
        """Return this with the bands and the faintest magnitude of the kind of images."""
        survey = self.images == "survey"
        bands = SURVEY_BANDS if survey and self.bands == EUCLID_BANDS else self.bands
        faint = self.faint or (SURVEY_FAINT if survey else EUCLID_FAINT)
        surveys = self.surveys if survey else (EUCLID,)
        return replace(self, bands=bands, faint=faint, surveys=surveys)


ALONE = (1.0, 0.0, 0.0, 0.0)
PAIRED = (0.0, 1.0, 0.0, 0.0)
# 75,000 images for each stage are 750 batches of 100; Adam with 1e-4 and that batch are debvader's.
_VAE = VaeRun(
    "vae", "paper", VaeConfig(), 100, 750, 100, 1e-4,
    scaling=Scaling("asinh"),
    recipe=CenteredRecipe(n_neighbors=ALONE),
    validation=1024,
)  # fmt: skip
_DEBLEND = replace(_VAE, network="vae-deblend", recipe=CenteredRecipe())

_SMALL_MODEL = VaeConfig(
    filters=(32, 64, 128), latent=32, hidden=256, downscale=2, apertures=(1.5, 3.0, 6.0, 12.0)
)
_SMALL: dict[str, Any] = {
    "preset": "small",
    "model": _SMALL_MODEL,
    "batch": 32,
    "steps": 500,
    "learning_rate": 2e-3,
    "schedule": "cosine",
    "warmup": 100,
    "clip": 20.0,
    "ema": 0.998,
    "weight_decay": 1e-5,
    "n_galaxies": 30_000,
    "validation": 512,
}
_TINY: dict[str, Any] = {
    "preset": "tiny",
    "batch": 16,
    "steps": 12,
    "epochs": 3,
    "learning_rate": 2e-3,
    "clip": 20.0,
    "n_galaxies": 128,
    "group": 64,
    "validation": 32,
}
_TINY_MODEL = VaeConfig(filters=(8, 16, 16), latent=8, hidden=32, downscale=2, apertures=(3.0,))
# Detected peaks are off by a pixel, stamps end, and surveys differ in depth; singles are there
# too, so that what is left of a blend is in distribution.
_SMALL_RECIPE = CenteredRecipe(jitter=1, annulus=(4.0, 20.0), rescale=0.3, cropped=0.2)
_SMALL_BLENDS = replace(
    _SMALL_RECIPE, n_neighbors=(0.3, 0.5, 0.15, 0.05), rescale=0.15, taken_off=0.5
)
VAE_PRESETS: Mapping[str, VaeRun] = {
    "paper": _VAE,
    "small": replace(
        _VAE,
        **(_SMALL | {"learning_rate": 3e-3}),
        epochs=50,
        recipe=replace(_SMALL_RECIPE, n_neighbors=ALONE),
    ),
    "tiny": replace(_VAE, **_TINY, model=_TINY_MODEL),
}
DEBLEND_PRESETS: Mapping[str, VaeRun] = {
    "paper": _DEBLEND,
    "small": replace(_DEBLEND, **_SMALL, epochs=60, recipe=_SMALL_BLENDS, warm_start=True),
    # Of survey images, whose first stage is shipped.
    "tiny": replace(_DEBLEND, **_TINY, model=_SMALL_MODEL, images="survey"),
}


def as_blend_run(config: VaeRun) -> BlendRun:
    """Return the run whose isolated images these are, for `raydeblend.train.isolated`."""
    return BlendRun(
        config.network, config.preset, config.model, config.batch, config.steps, config.epochs,
        config.learning_rate, bands=config.bands, seed=config.seed, surveys=config.surveys,
        catalog=config.catalog, held_out=config.held_out, n_galaxies=config.n_galaxies,
        faint=config.faint or SURVEY_FAINT, group=config.group,
    )  # fmt: skip


class VaeTraining(NetworkTraining[VaeRun, IsolatedImages, list[CenteredBatch]]):
    """Stage one: encode and decode isolated galaxies."""

    exported: ClassVar[tuple[str, ...]] = ("vae",)
    columns: ClassVar[tuple[str, ...]] = ("image", "model", "truth", "residual")
    validated_on: ClassVar[tuple[float, float, float, float]] = ALONE
    """Probability of 0, 1, 2 and 3 neighbors in the images kept for validation."""

    @property
    def _name(self) -> str:
        return self.exported[0]

    def check(self, root: str) -> None:
        """Check the galaxies and the place of the shards."""
        if self.config.images == "euclid":
            check_euclid(*self._euclid(root))
        else:
            check_shards(as_blend_run(self.config), root)

    def prepare(self, root: str) -> tuple[str, ...]:
        """Render the isolated images into `root`; return the shards."""
        if self.config.images == "euclid":
            return tuple(render_euclid_shards(*self._euclid(root), self.config.n_galaxies))
        return render_shards(as_blend_run(self.config), root)

    def _euclid(self, root: str) -> tuple[str, EuclidConfig]:
        config = self.config
        return storage.join(root, EUCLID), EuclidConfig(
            group=config.group,
            seed=config.seed,
            size=EUCLID_SIZE,
            faint=config.faint or EUCLID_FAINT,
            catalog=config.catalog,
            hst=config.data,
            realistic=config.realistic if config.data else 0.0,
        )

    def load(
        self, paths: Sequence[str], rank: int, world: int, device: torch.device
    ) -> IsolatedImages:
        """Return the galaxies that worker `rank` of `world` trains on."""
        return load_share(paths, rank, world, self.config.bands, device)

    def load_validation(self, paths: Sequence[str], device: torch.device) -> list[CenteredBatch]:
        """Return images of galaxies never trained on, with `validated_on` neighbors."""
        config, galaxies = self.config, load_held_out(paths, self.config.bands, device)
        recipe = CenteredRecipe(config.recipe.stamp, 0, config.recipe.annulus, self.validated_on)
        generator = torch.Generator(device).manual_seed(VALIDATION_SEED)
        sizes = [
            min(VALIDATION_CHUNK, config.validation - first)
            for first in range(0, config.validation, VALIDATION_CHUNK)
        ]
        return [compose_centered(galaxies, size, recipe, generator) for size in sizes]

    def build(self) -> dict[str, nn.Module]:
        """Return the autoencoder at random."""
        return {self._name: Vae(self.config.model)}

    def optimizer(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return Adam of what is not frozen."""
        learning = [p for p in network.parameters() if p.requires_grad]
        rate, decay = self.config.learning_rate, self.config.weight_decay
        return torch.optim.AdamW(learning, rate, weight_decay=decay)

    def steps(
        self, state: TrainState, networks: Networks, data: IsolatedImages, n: int, seed: int
    ) -> Step:
        """Return the step function of one epoch: encode, decode and compare."""
        config, network, device = self.config, networks[self._name], data.images.device
        generator = torch.Generator(device).manual_seed(seed)

        def step(number: int) -> dict[str, Tensor]:
            batch = compose_centered(data, n, config.recipe, generator)
            if config.recipe.taken_off:
                batch = self._cleaned(network, batch, generator)
            noise = torch.randn((n, config.model.latent), generator=generator, device=device)
            loss, parts = vae_step(network, batch, config.scaling, config.loss, noise)
            self.descend(state, self._name, loss, learning_rate_at(config, number))
            update_averages(state, config.ema, number)
            return {"loss": loss.detach(), **parts}

        return ResumableStep(step, RandomStream(generator))

    def _cleaned(
        self, network: nn.Module, batch: CenteredBatch, generator: torch.Generator
    ) -> CenteredBatch:
        """Return the batch less the network's models of some of the neighbors."""
        scaling, recipe = self.config.scaling, self.config.recipe
        return second_pass(network, batch, scaling, recipe.taken_off, recipe.jitter, generator)

    def validate(self, state: TrainState, held_out: list[CenteredBatch]) -> Scalars:
        """Return flux residuals on the validation images, see `vae_scores`.

        Where the recipe takes neighbors off, those of the second pass too, as
        ``second_flux_std`` and so on.
        """
        network, scaling = state.final(self._name), self.config.scaling
        latent = self.config.model.latent
        scores = vae_scores(network, held_out, scaling, latent)
        if not self.config.recipe.taken_off:
            return scores
        generator = torch.Generator(held_out[0].image.device).manual_seed(VALIDATION_SEED)
        cleaned = [second_pass(network, b, scaling, 1.0, 0, generator) for b in held_out]
        again = vae_scores(network, cleaned, scaling, latent)
        return scores | {f"second_{name}": value for name, value in again.items()}

    @torch.no_grad()
    def picture(self, state: TrainState, held_out: list[CenteredBatch]) -> Tensor:
        """Draw images, models, true galaxies and what the models leave of the images."""
        image, target = held_out[0].image[:EXAMPLES], held_out[0].target[:EXAMPLES]
        network = state.final(self._name).eval()
        noise = image.new_zeros(len(image), self.config.model.latent)
        model, *_ = encode_decode(network, image, self.config.scaling, noise)
        network.train()
        peak = image.amax(dim=(1, 2, 3), keepdim=True)
        return draw_columns([part / peak for part in (image, model, target, image - model)])


class VaeDeblendTraining(VaeTraining):
    """Stage two: a new encoder of blends, behind the frozen decoder of stage one."""

    exported: ClassVar[tuple[str, ...]] = ("vae-deblend",)
    validated_on: ClassVar[tuple[float, float, float, float]] = PAIRED

    def check(self, root: str) -> None:
        """Check the galaxies, the place of the shards and the weights of stage one."""
        super().check(root)
        weights, bands = self.config.vae_weights, self.config.bands
        if weights is None:
            raise ConfigError("stage two needs the weights of stage one: give vae_weights")
        card = load_card(weights_path(weights))
        if card.network not in ("vae", "vae-deblend") or card.bands != bands:
            raise ConfigError(
                f"{weights} is a {card.network} of {', '.join(card.bands)}, "
                f"not the vae of {', '.join(bands)} that is needed"
            )

    def build(self) -> dict[str, nn.Module]:
        """Return an encoder at random, or with `warm_start` that of stage one, and its decoder."""
        network, weights = Vae(self.config.model), self.config.vae_weights
        if weights is not None:
            first, _ = load_weights(weights_path(weights))
            assert isinstance(first, Vae)
            network.decoder.load_state_dict(first.decoder.state_dict())
            if self.config.warm_start:
                network.encoder.load_state_dict(first.encoder.state_dict())
        freeze_decoder(network)
        return {self._name: network}
