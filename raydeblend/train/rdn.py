"""The deblender of Wang et al. 2022: its run, presets, steps and scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn

from raydeblend.networks.rdn import Rdn, RdnConfig
from raydeblend.networks.scaling import Scaling
from raydeblend.train.blends import BlendBatch, BlendRecipe, IsolatedImages
from raydeblend.train.board import draw_columns
from raydeblend.train.config import learning_rate_at
from raydeblend.train.data import VALIDATION_SEED, validation_blends
from raydeblend.train.epoch import descend
from raydeblend.train.family import Family, Step
from raydeblend.train.isolated import (
    SMALL,
    TINY,
    TINY_TWO,
    TWO,
    BlendRun,
    check_shards,
    load_held_out,
    load_share,
    make_optimizer,
    render_shards,
)
from raydeblend.train.losses import DeblendLoss
from raydeblend.train.peeling import PeelBatch, PeelStream
from raydeblend.train.state import Scalars, TrainState, start_state, update_averages
from raydeblend.train.steps import rdn_scores, rdn_step

EXAMPLES = 6
"""Blends in the picture on the board."""


@dataclass(frozen=True)
class RdnRun(BlendRun):
    """A run of the deblender; `loss` is its loss."""

    model: RdnConfig
    loss: DeblendLoss = field(default_factory=DeblendLoss)

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
_PAPER = RdnRun("rdn", "paper", RdnConfig(), 128, 391, 150, 1e-4, recipe=TWO)
PRESETS: Mapping[str, RdnRun] = {
    "paper": _PAPER,
    "small": replace(
        _PAPER,
        **SMALL,
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
        learning_rate=2e-3,
        model=RdnConfig(blocks=2, layers=2, features=16, growth=8, downscale=2),
        recipe=TINY_TWO,
    ),
}


def start(config: RdnRun, device: torch.device) -> TrainState:
    """Return the state before the first epoch."""
    torch.manual_seed(config.seed)
    averaged = ("rdn",) if config.ema else ()
    networks: dict[str, nn.Module] = {"rdn": Rdn(config.model)}
    return start_state(networks, partial(make_optimizer, config), device, averaged)


def make_steps(
    config: RdnRun,
    state: TrainState,
    networks: Mapping[str, nn.Module],
    isolated: IsolatedImages,
    n: int,
    seed: int,
) -> Step:
    """Return the step function of one epoch: peel a batch once and compare (Eq. 1)."""
    stream = PeelStream(isolated, config.recipe, seed, config.residual_fraction)

    def step(number: int) -> dict[str, Tensor]:
        batch = stream.draw(n)
        loss, model, chosen = rdn_step(networks["rdn"], batch, config.scaling, config.loss)
        if config.residual_fraction:
            stream.feed_back(batch, model, chosen)
        descend(state.optimizers["rdn"], loss, learning_rate_at(config, number), config.clip)
        update_averages(state, config.ema, number)
        return {"loss": loss.detach()}

    return step


def validate(config: RdnRun, state: TrainState, held_out: IsolatedImages) -> Scalars:
    """Return PSNR, flux error and SSIM on blends of two galaxies never trained on."""
    return peel_scores(state.final("rdn"), config, held_out)


def peel_scores(network: nn.Module, config: RdnRun, held_out: IsolatedImages) -> Scalars:
    """Return the scores of a deblender on the device of `held_out`."""
    blends = validation_blends(held_out, config.recipe, config.validation, VALIDATION_SEED)
    return _mean((len(b.n_sources), _chunk_scores(network, config, b)) for b in blends)


def picture(config: RdnRun, state: TrainState, held_out: IsolatedImages) -> Tensor:
    """Draw blend, model, truth and residual of a few held-out blends, a row each."""
    return draw_peels(state.final("rdn"), config, held_out)


def draw_peels(network: nn.Module, config: RdnRun, held_out: IsolatedImages) -> Tensor:
    """Draw blend, model, truth and residual; ``(3, EXAMPLES * y, 4 * x)``."""
    blends = next(validation_blends(held_out, config.recipe, EXAMPLES, VALIDATION_SEED))
    examples = peel_examples(network, config, blends)
    residual = examples.blend - examples.model
    return draw_columns([examples.blend, examples.model, examples.truth, residual])


@torch.no_grad()
def peel_examples(network: nn.Module, config: RdnRun, blends: BlendBatch) -> Examples:
    """Peel each blend once."""
    network.eval()
    batch = PeelBatch(blends.blend, blends.sources, blends.n_sources)
    _, model, chosen = rdn_step(network, batch, config.scaling, config.loss)
    network.train()
    truth = blends.sources[torch.arange(len(chosen), device=chosen.device), chosen]
    _, maximum = config.scaling.apply(blends.blend)
    return Examples(blends.blend / maximum, model / maximum, truth / maximum)


def mean_ssim(examples: Examples) -> float:
    """Mean structural similarity of model and truth (scikit-image, data_range 1)."""
    pairs = zip(examples.model.cpu().numpy(), examples.truth.cpu().numpy(), strict=True)
    return float(
        np.mean([structural_similarity(t, m, data_range=1.0, channel_axis=0) for m, t in pairs])
    )


def _chunk_scores(network: nn.Module, config: RdnRun, blends: BlendBatch) -> Scalars:
    scores = rdn_scores(network, blends, config.scaling, config.loss)
    return scores | {"ssim_1": mean_ssim(peel_examples(network, config, blends))}


def _mean(weighted: Iterable[tuple[int, Scalars]]) -> Scalars:
    counts, scores = zip(*weighted, strict=True)
    return {
        name: float(np.average([score[name] for score in scores], weights=counts))
        for name in scores[0]
    }


FAMILY = Family(
    exported=("rdn",),
    check=check_shards,
    prepare=render_shards,
    load=load_share,
    load_validation=load_held_out,
    start=start,
    steps=make_steps,
    validate=validate,
    picture=picture,
)
