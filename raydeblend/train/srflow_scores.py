"""Scores of the super-resolution flow on galaxies never trained on: images and their intervals."""

from __future__ import annotations

import torch
from torch import Tensor

from raydeblend.networks.scaling import Scaling
from raydeblend.networks.srflow import Sampling, Srflow, half_width
from raydeblend.networks.srgan import enlarge, stretch, unstretch
from raydeblend.train.board import draw_columns
from raydeblend.train.srgan_data import PairBatch, PairRecipe, SharpPool
from raydeblend.train.srgan_scores import EXAMPLES, validation_pairs
from raydeblend.train.state import Scalars

LIT = 0.02
"""Stretched brightness of the generator's image above which a pixel has light."""
LEVELS = (68, 95)
"""Percent, of the intervals whose coverage is reported."""
CALIBRATED = 0.8
"""Of the interval that the inflation makes hold: between the others, which then nearly do."""


@torch.no_grad()
def sample_scores(
    network: Srflow,
    pool: SharpPool,
    recipe: PairRecipe,
    scaling: Scaling,
    n: int,
    sampling: Sampling,
) -> Scalars:
    """Return the means over `n` blends of two, always the same.

    ``psnr_generator``, ``psnr_sample`` and ``psnr`` (dB) of the stretched image of the generator,
    of one sample and of the samples' mean; ``inflation`` with which the samples' intervals hold in
    pixels with light, and ``inside_68`` and ``inside_95``, the fractions of these pixels that are
    then inside.  The network is left in training mode.
    """
    network.eval()
    scores: dict[str, list[Tensor]] = {}
    for batch in validation_pairs(pool, recipe, n, 2):
        for name, values in _scores(network, batch, scaling, sampling).items():
            scores.setdefault(name, []).append(values)
    network.train()
    errors = torch.cat(scores.pop("errors"))
    means = {name: float(torch.cat(values).mean()) for name, values in scores.items()}
    return means | calibrated(errors, network.config.inflation, sampling.samples)


def calibrated(errors: Tensor, inflation: float, samples: int) -> Scalars:
    """Return the inflation and the coverage from errors ``(n,)`` in standard deviations.

    `inflation` is that of the samples that they are errors of.
    """
    factor = float(errors.quantile(CALIBRATED)) / half_width(samples, CALIBRATED)
    scores = {"inflation": factor * inflation}
    for level in LEVELS:
        inside = errors <= factor * half_width(samples, level / 100)
        scores[f"inside_{level}"] = float(inside.float().mean())
    return scores


def _scores(
    network: Srflow, batch: PairBatch, scaling: Scaling, sampling: Sampling
) -> dict[str, Tensor]:
    """One number for each pair or lit pixel, by name."""
    generated, samples = sampled(network, batch.low, scaling, sampling)
    truth = stretch(batch.high, scaling.softening)
    images = {"psnr_generator": generated, "psnr_sample": samples[0], "psnr": samples.mean(dim=0)}
    scores = {name: decibels(image, truth) for name, image in images.items()}
    errors = (truth - samples.mean(dim=0)).abs() / samples.std(dim=0).clamp_min(1e-6)
    return scores | {"errors": errors[generated > LIT]}


def sampled(
    network: Srflow, low: Tensor, scaling: Scaling, sampling: Sampling
) -> tuple[Tensor, Tensor]:
    """Return the generator's images and ``(k, n, bands, 3 y, 3 x)`` samples, stretched.

    `low` is ``(n, bands, y, x)`` in sky sigmas.
    """
    condition = network.condition(scaling.apply(low)[0])
    return condition.generated, network.samples(condition, sampling)


def decibels(image: Tensor, truth: Tensor) -> Tensor:
    """Return the PSNR ``(n,)`` of stretched images, whose maximum is 1."""
    return -10 * torch.log10((image - truth).square().mean(dim=(1, 2, 3)) + 1e-12)


@torch.no_grad()
def draw_samples(
    network: Srflow, pool: SharpPool, recipe: PairRecipe, scaling: Scaling, sampling: Sampling
) -> Tensor:
    """Draw low resolution, generator, two samples, their mean and HST's image, a row each."""
    batch = next(validation_pairs(pool, recipe, EXAMPLES, 2))
    network.eval()
    generated, samples = sampled(network, batch.low, scaling, sampling)
    network.train()
    top = batch.high.amax(dim=(1, 2, 3), keepdim=True)
    images = (generated, *samples[:2], samples.mean(dim=0))
    fine = [unstretch(image, scaling.softening) / top for image in images]
    low = enlarge(batch.low)
    return draw_columns([low / low.amax(dim=(1, 2, 3), keepdim=True), *fine, batch.high / top])
