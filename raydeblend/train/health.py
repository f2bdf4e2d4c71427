"""Scores that show whether an adversarial run is healthy, for `stopping.check_health`."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from raydeblend.train.state import Scalars


@torch.no_grad()
def discriminator_scores(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Scalars:
    """Return the mean probability of being real that is given to each, after the sigmoid."""
    discriminator.eval()
    probability = [torch.sigmoid(discriminator(images)).mean() for images in (real, fake)]
    discriminator.train()
    return {
        "discriminator_real": float(probability[0]),
        "discriminator_fake": float(probability[1]),
    }


def variety_scores(real: Tensor, fake: Tensor) -> Scalars:
    """Return how samples differ among themselves and how bright they are, relative to real images.

    Without noise, which differs in copies too.

    diversity
        Mean distance (rms over pixels) of two samples over that of two real images.
    brightness
        Mean pixel of the samples over that of the real images.
    """
    return {
        "diversity": float(mean_distance(fake) / mean_distance(real)),
        "brightness": float(fake.mean() / real.mean()),
    }


def mean_distance(images: Tensor) -> Tensor:
    """Mean rms distance over all pairs of images ``(n, channels, y, x)``; ``()``."""
    distance = torch.pdist(images.flatten(1).float()).mean()
    return distance / math.sqrt(images[0].numel())
