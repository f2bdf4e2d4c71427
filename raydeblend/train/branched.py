"""The branched deblender of Reiman & Göhre 2019: its run, presets and training.

Two kinds of data, by the field `blends`: ``galaxy_zoo``, the paper's, needs a folder of pictures;
``survey`` composes blends of rendered galaxies as for every other deblender, and its weights are
those that separate survey stamps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from raydeblend.errors import ConfigError
from raydeblend.networks.branched import (
    Branched,
    BranchedConfig,
    Discriminator,
    DiscriminatorConfig,
    Head,
)
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.vgg import Features, load_features
from raydeblend.simulate import galaxy_zoo
from raydeblend.train.blends import BlendRecipe, IsolatedImages
from raydeblend.train.branched_data import (
    PairBatch,
    PairStream,
    SurveyStream,
    ZooStream,
    survey_validation,
    zoo_validation,
)
from raydeblend.train.branched_scores import EXAMPLES, draw_pairs, pair_scores
from raydeblend.train.branched_steps import BranchedLoss, PairNetworks, branched_step
from raydeblend.train.config import check_choice, learning_rate_at
from raydeblend.train.epoch import Step
from raydeblend.train.isolated import (
    SMALL,
    TINY,
    BlendRun,
    IsolatedTraining,
    load_held_out,
    load_share,
)
from raydeblend.train.network_training import Networks
from raydeblend.train.state import Scalars, TrainState, update_averages
from raydeblend.train.streams import ResumableStep

BLENDS = ("galaxy_zoo", "survey")
CHOICES = (
    "not in the paper and chosen: widths, 9x9 ends, outer skips and discriminator as in SRGAN, no "
    "up-sampling where input and output agree, displacements of either sign, bilinear warps, "
    "black beyond the second picture, VGG-19's sixteenth convolution"
)
STRETCH = {"galaxy_zoo": 3.0, "survey": 30.0}
"""Contrast of the pictures on the board: survey images are linear, those of Galaxy Zoo are not."""

Data = Tensor | IsolatedImages
"""Pictures ``(n, 3, 80, 80)`` of uint8, or isolated survey images."""


@dataclass(frozen=True)
class BranchedRun(BlendRun):
    """A run of the branched network.

    Attributes
    ----------
    blends
        ``galaxy_zoo`` or ``survey``; the fields of `BlendRun` are for the latter.
    data
        Folder of Galaxy Zoo pictures.
    discriminator
        Size of the discriminator.
    loss
        What either network lowers.
    survey_loss
        Replaces `loss` for survey images, where it is given.
    vgg19_weights
        File of VGG-19's weights for the burn-in; None takes the counter trained here.
    """

    model: BranchedConfig
    blends: str = "galaxy_zoo"
    data: str | None = None
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loss: BranchedLoss = field(default_factory=BranchedLoss)
    survey_loss: BranchedLoss | None = None
    vgg19_weights: str | None = None

    def pixel_scale(self) -> tuple[float, float]:
        """Arcsec per pixel; 0 for Galaxy Zoo, whose pixels are fractions of each galaxy's size."""
        return (0.0, 0.0) if self.blends == "galaxy_zoo" else super().pixel_scale()

    def describe_data(self) -> str:
        """Return which pictures or galaxies, and what the burn-in compared."""
        zoo = "pixelwise maxima of Galaxy Zoo pictures (6 of 8, by name)"
        data = zoo if self.blends == "galaxy_zoo" else f"sums of {super().describe_data()}"
        features = "VGG-19" if self.vgg19_weights else "the counter's convolutions"
        steps = self.loss.burn_in
        burn_in = f"burn-in of {steps} steps on {features}" if steps else "no burn-in"
        return f"{data}; {burn_in}; {CHOICES}"

    def fitted(self) -> Self:
        """Return this with the channels of its data, and a head that suits them."""
        if self.blends == "galaxy_zoo":
            # Inputs are in [0, 1] as they come; `scaling` is for survey images.
            return self._with_channels(galaxy_zoo.BANDS, len(galaxy_zoo.BANDS), self.model.head)
        # tanh never reaches the sky's zero, and a gate would let its noise through.  A stretched
        # input `scaling` has already, and sums have no pixels to choose.
        model = replace(self.model, stretch=0.0, stem=0, refine=0)
        survey = replace(self, model=model, loss=self.survey_loss or self.loss)
        return survey._with_channels(self.bands, self.scaling.channels(len(self.bands)), "linear")

    def _with_channels(self, bands: tuple[str, ...], channels: int, head: Head) -> Self:
        model = replace(self.model, in_channels=channels, out_channels=len(bands), head=head)
        discriminator = replace(self.discriminator, in_channels=len(bands))
        return replace(self, bands=bands, model=model, discriminator=discriminator)

    def check(self) -> None:
        """Raise ConfigError if a choice is unknown or a number is out of range."""
        super().check()
        check_choice("blends", self.blends, BLENDS)
        if self.data is not None and self.blends == "survey":
            raise ConfigError("data, a folder of pictures, is for blends=galaxy_zoo, not survey")
        side = galaxy_zoo.SIZE if self.blends == "galaxy_zoo" else self.recipe.stamp
        downscale = self.fitted().model.downscale
        if side % downscale:
            raise ConfigError(
                f"stamp must be a multiple of the network's downscale, {downscale}, not {side}"
            )


# Section 2.4: 200,000 updates of 16 images, the rate ten times lower in the second half.  The
# number of pictures is the user's, so an epoch here is 1000 updates.
_PAPER = BranchedRun(
    "branched", "paper", BranchedConfig(), 16, 1000, 200, 1e-4,
    schedule="milestones",
    milestones=(0.5,),
    recipe=BlendRecipe(stamp=80, max_shift=12, n_sources=(0, 0, 1, 0, 0), brighten=0.0),
)  # fmt: skip
# With a gate the output starts from the input and the logarithm has no black minimum, so that
# there is nothing to burn in.  Without the discriminator: what counts is the pixels' light.
_SMALL_MODEL = BranchedConfig(
    root=6, branch=3, features=64, ends=3, norm=False, downscale=4, fine=16, head="gate",
    stretch=0.02, stem=16, refine=2,
)  # fmt: skip
_SMALL_LOSS = BranchedLoss(
    "log_mse", adversarial="non_saturating", adversarial_weight=0.0, burn_in=0
)

PRESETS: Mapping[str, BranchedRun] = {
    "paper": _PAPER,
    "small": replace(
        _PAPER,
        **SMALL,
        epochs=20,
        learning_rate=1e-3,
        weight_decay=1e-4,
        model=_SMALL_MODEL,
        loss=replace(_SMALL_LOSS, ssim_weight=10.0, clipped=True),
        discriminator=DiscriminatorConfig(features=8, hidden=64),
        survey_loss=replace(_SMALL_LOSS, floor=1e-4, flux_weight=0.2, tie_ratio=0.8),
        scaling=Scaling("maximum+asinh"),
        recipe=BlendRecipe(stamp=64, n_sources=(0.05, 0.15, 0.45, 0.25, 0.1)),
        residual_fraction=0.3,
    ),
    # Of survey images, so that it runs without a download.
    "tiny": replace(
        _PAPER,
        **TINY,
        blends="survey",
        learning_rate=2e-3,
        model=BranchedConfig(root=1, branch=1, features=16, ends=3, downscale=2, fine=8),
        discriminator=DiscriminatorConfig(features=4, blocks=4, pooled=2, hidden=16),
        loss=BranchedLoss(burn_in=2),
        recipe=replace(_PAPER.recipe, stamp=32, max_shift=6),
    ),
}


class BranchedTraining(IsolatedTraining[BranchedRun, Data]):
    """Train the generator and its discriminator on pairs of galaxies (sections 2.2 and 2.4)."""

    exported: ClassVar[tuple[str, ...]] = ("generator",)
    columns: ClassVar[tuple[str, ...]] = ("blend", "model 1", "truth 1", "model 2", "truth 2")

    @property
    def _from_survey(self) -> bool:
        return self.config.blends == "survey"

    def check(self, root: str) -> None:
        """Check that the data and the burn-in's weights are there.

        Raises
        ------
        ConfigError
            If a folder holds no usable pictures, `root` other images, or weights are unusable.
        """
        if self._from_survey:
            super().check(root)
        elif self.config.data is None:
            raise ConfigError(
                "branched learns from a folder of Galaxy Zoo pictures (data), or from survey "
                "images (blends=survey)"
            )
        else:
            self._read_pictures("train", limit=16)
            self._read_pictures("validation", limit=16)
        if self.config.loss.burn_in:
            load_features(self.config.vgg19_weights)

    def prepare(self, root: str) -> tuple[str, ...]:
        """Render the survey's galaxies into `root`, or name the folder of pictures."""
        return super().prepare(root) if self._from_survey else (str(self.config.data),)

    def load(self, paths: Sequence[str], rank: int, world: int, device: torch.device) -> Data:
        """Return the survey galaxies that worker `rank` of `world` trains on, or all pictures."""
        if self._from_survey:
            return load_share(paths, rank, world, self.config.bands, device)
        return self._read_pictures("train").to(device)

    def load_validation(self, paths: Sequence[str], device: torch.device) -> Data:
        """Return the galaxies kept for validation."""
        if self._from_survey:
            return load_held_out(paths, self.config.bands, device)
        return self._read_pictures("validation").to(device)

    def _read_pictures(self, split: galaxy_zoo.Split, limit: int | None = None) -> Tensor:
        read = galaxy_zoo.read_galaxy_zoo(str(self.config.data), split, limit=limit)
        return torch.from_numpy(read.images)

    def build(self) -> dict[str, nn.Module]:
        """Return both networks at random."""
        return {
            "generator": Branched(self.config.model),
            "discriminator": Discriminator(self.config.discriminator),
        }

    def steps(self, state: TrainState, networks: Networks, data: Data, n: int, seed: int) -> Step:
        """Return the step function of one epoch: both networks are updated once a step."""
        config, stream = self.config, self._stream(data, seed)
        features = self._features(state)

        def step(number: int) -> dict[str, Tensor]:
            pair = PairNetworks(
                networks["generator"],
                networks["discriminator"],
                state.networks["discriminator"],
                features if number < config.loss.burn_in else None,
            )
            down = partial(self.descend, state, rate=learning_rate_at(config, number))
            scalars, model = branched_step(pair, stream.draw(n), config.loss, down)
            stream.feed_back(model)
            update_averages(state, config.ema, number)
            return scalars

        return ResumableStep(step, stream)

    def _stream(self, data: Data, seed: int) -> PairStream:
        """Return the training pairs of one worker in one epoch."""
        config = self.config
        if isinstance(data, Tensor):
            return ZooStream(data, seed)
        return SurveyStream(data, config.recipe, config.scaling, seed, config.residual_fraction)

    def _features(self, state: TrainState) -> Features | None:
        """Return what the burn-in compares, None once it is over."""
        if state.epoch * self.config.steps >= self.config.loss.burn_in:
            return None
        device = next(state.networks["generator"].parameters()).device
        return load_features(self.config.vgg19_weights, device)

    def validate(self, state: TrainState, held_out: Data) -> Scalars:
        """Return the scores on held-out galaxies."""
        pairs = self._validation_pairs(held_out, self.config.validation)
        return pair_scores(state.final("generator"), state.networks["discriminator"], pairs)

    def picture(self, state: TrainState, held_out: Data) -> Tensor:
        """Draw blend, model and truth of either branch for a few held-out blends."""
        batch = next(iter(self._validation_pairs(held_out, EXAMPLES)))
        return draw_pairs(state.final("generator"), batch, STRETCH[self.config.blends])

    def _validation_pairs(self, held_out: Data, n: int) -> Iterable[PairBatch]:
        """Return the same `n` held-out pairs at every call, in chunks."""
        if isinstance(held_out, Tensor):
            return zoo_validation(held_out, n)
        return survey_validation(held_out, self.config.recipe, self.config.scaling, n)
