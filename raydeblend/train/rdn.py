"""The deblender of Wang et al. 2022: its run, presets and training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from raydeblend.errors import ConfigError
from raydeblend.networks.rdn import Rdn, RdnConfig
from raydeblend.networks.scaling import Scaling
from raydeblend.train.blends import BlendBatch, BlendRecipe, IsolatedImages
from raydeblend.train.board import draw_columns
from raydeblend.train.config import learning_rate_at
from raydeblend.train.data import VALIDATION_SEED, validation_blends
from raydeblend.train.epoch import Step
from raydeblend.train.isolated import SMALL, TINY, TINY_TWO, TWO, BlendRun, BlendTraining
from raydeblend.train.losses import DeblendLoss
from raydeblend.train.network_training import Networks
from raydeblend.train.peeling import PeelBatch, PeelStream
from raydeblend.train.state import Scalars, TrainState, update_averages
from raydeblend.train.steps import rdn_scores, rdn_step
from raydeblend.train.streams import ResumableStep

EXAMPLES = 6
"""Blends in the picture on the board."""
Peeled = tuple[Tensor, Tensor, Tensor]
"""Share of the loss, model and chosen source of a part of a batch, see `rdn_step`."""


@dataclass(frozen=True)
class DeblenderRun(BlendRun):
    """A run, of phase one or two, that updates the deblender.

    Attributes
    ----------
    loss
        The deblender's, l_RDN of Eq. 4.
    images_at_once
        Images of a batch in memory together, whose gradients are added up before the step; 0: all.
        The deblender has no batch normalization: only memory and rounding depend on this.
    """

    loss: DeblendLoss = field(default_factory=DeblendLoss)
    images_at_once: int = 0

    def check(self) -> None:
        """Raise ConfigError if a number is out of range."""
        super().check()
        if self.images_at_once < 0:
            raise ConfigError(
                f"images_at_once must be positive, or 0 for all, not {self.images_at_once}"
            )


@dataclass(frozen=True)
class RdnRun(DeblenderRun):
    """A run of phase one."""

    model: RdnConfig

    def fitted(self) -> Self:
        """Return this with the channels that `bands` and `scaling` ask for."""
        return replace(self, model=fit_channels(self.model, self.bands, self.scaling))


@dataclass(frozen=True)
class Examples:
    """First peels, each ``(n, bands, y, x)``, divided by the maximum of the noisy blend."""

    blend: Tensor
    model: Tensor
    truth: Tensor


def fit_channels(model: RdnConfig, bands: tuple[str, ...], scaling: Scaling) -> RdnConfig:
    """Return the network's size with channels for these bands."""
    return replace(model, in_channels=scaling.channels(len(bands)), out_channels=len(bands))


# Sections II.D and III.A.1: 50,000 blends of two galaxies in batches of 128 are 391 steps.
# An image takes about 1 GB of memory in training, so that a batch is done in parts.
_PAPER = RdnRun("rdn", "paper", RdnConfig(), 128, 391, 150, 1e-4, recipe=TWO, images_at_once=8)
PRESETS: Mapping[str, RdnRun] = {
    "paper": _PAPER,
    "small": replace(
        _PAPER,
        **SMALL,
        images_at_once=0,
        batch=32,
        epochs=40,
        learning_rate=1e-3,
        weight_decay=1e-4,
        scaling=Scaling("maximum+asinh"),
        model=RdnConfig(blocks=6, layers=4, features=48, growth=32, downscale=2),
        recipe=BlendRecipe(stamp=64),
        residual_fraction=0.4,
        loss=DeblendLoss("log_mse", flux_weight=0.2, tie_ratio=0.8),
    ),
    "tiny": replace(
        _PAPER,
        **TINY,
        images_at_once=0,
        learning_rate=2e-3,
        model=RdnConfig(blocks=2, layers=2, features=16, growth=8, downscale=2),
        recipe=TINY_TWO,
    ),
}


class RdnTraining(BlendTraining[RdnRun]):
    """Peel blends of two galaxies once and compare with the brightest (Eq. 1)."""

    exported: ClassVar[tuple[str, ...]] = ("rdn",)
    columns: ClassVar[tuple[str, ...]] = ("blend", "model", "truth", "residual")

    def build(self) -> dict[str, nn.Module]:
        """Return the deblender at random."""
        return {"rdn": Rdn(self.config.model)}

    def steps(
        self, state: TrainState, networks: Networks, data: IsolatedImages, n: int, seed: int
    ) -> Step:
        """Return the step function of one epoch: peel a batch once and compare (Eq. 1)."""
        config = self.config
        stream = PeelStream(data, config.recipe, seed, config.residual_fraction)

        def step(number: int) -> dict[str, Tensor]:
            batch, peeled = stream.draw(n), list[Peeled]()
            losses = self._losses(networks["rdn"], batch, peeled)
            self.descend_in_parts(state, "rdn", losses, learning_rate_at(config, number))
            loss, models, chosen = zip(*peeled, strict=True)
            if config.residual_fraction:
                stream.feed_back(batch, torch.cat(models), torch.cat(chosen))
            update_averages(state, config.ema, number)
            return {"loss": torch.stack(loss).sum()}

        return ResumableStep(step, stream)

    def _losses(
        self, network: nn.Module, batch: PeelBatch, peeled: list[Peeled]
    ) -> Iterator[Tensor]:
        """Yield each part's share of the batch's mean loss; add what it gave to `peeled`."""
        config = self.config
        for part in batch.parts(config.images_at_once):
            loss, model, chosen = rdn_step(network, part, config.scaling, config.loss)
            loss = loss * len(chosen) / len(batch.n_sources)
            peeled.append((loss.detach(), model.detach(), chosen))
            yield loss

    def validate(self, state: TrainState, held_out: IsolatedImages) -> Scalars:
        """Return PSNR, flux error and SSIM on blends of two galaxies never trained on."""
        return self.scores(state.final("rdn"), held_out)

    def scores(self, network: nn.Module, held_out: IsolatedImages) -> Scalars:
        """Return the scores of a deblender on the device of `held_out`."""
        config = self.config
        blends = validation_blends(held_out, config.recipe, config.validation, VALIDATION_SEED)
        return _mean((len(b.n_sources), self._chunk_scores(network, b)) for b in blends)

    def _chunk_scores(self, network: nn.Module, blends: BlendBatch) -> Scalars:
        scores = rdn_scores(network, blends, self.config.scaling, self.config.loss)
        return scores | {"ssim_1": mean_ssim(self.examples(network, blends))}

    def picture(self, state: TrainState, held_out: IsolatedImages) -> Tensor:
        """Draw blend, model, truth and residual of a few held-out blends, a row each."""
        return self.draw(state.final("rdn"), held_out)

    def draw(self, network: nn.Module, held_out: IsolatedImages) -> Tensor:
        """Draw blend, model, truth and residual; ``(3, EXAMPLES * y, 4 * x)``."""
        blends = next(validation_blends(held_out, self.config.recipe, EXAMPLES, VALIDATION_SEED))
        examples = self.examples(network, blends)
        residual = examples.blend - examples.model
        return draw_columns([examples.blend, examples.model, examples.truth, residual])

    @torch.no_grad()
    def examples(self, network: nn.Module, blends: BlendBatch) -> Examples:
        """Peel each blend once."""
        scaling = self.config.scaling
        network.eval()
        _, model, chosen = rdn_step(network, PeelBatch.of(blends), scaling, self.config.loss)
        network.train()
        truth = blends.sources[torch.arange(len(chosen), device=chosen.device), chosen]
        _, maximum = scaling.apply(blends.blend)
        return Examples(blends.blend / maximum, model / maximum, truth / maximum)


def mean_ssim(examples: Examples) -> float:
    """Mean structural similarity of model and truth (scikit-image, data_range 1)."""
    pairs = zip(examples.model.cpu().numpy(), examples.truth.cpu().numpy(), strict=True)
    return float(
        np.mean([structural_similarity(t, m, data_range=1.0, channel_axis=0) for m, t in pairs])
    )


def _mean(weighted: Iterable[tuple[int, Scalars]]) -> Scalars:
    counts, scores = zip(*weighted, strict=True)
    return {
        name: float(np.average([score[name] for score in scores], weights=counts))
        for name in scores[0]
    }
