"""Scores that show whether an adversarial run is healthy; `stopping.check_health` judges them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from raydeblend.train.state import Scalars


@torch.no_grad()
def health_scores(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Scalars:
    """Return the scores of samples `fake` beside real images, both ``(n, channels, y, x)``.

    discriminator_real, discriminator_fake
        Mean probability of being real, after the sigmoid.
    diversity
        Mean distance (rms over pixels) of two samples over that of two real images.
    brightness
        Mean pixel of the samples over that of the real images.
    """
    discriminator.eval()
    said = [torch.sigmoid(discriminator(images)).mean() for images in (real, fake)]
    discriminator.train()
    return {
        "discriminator_real": float(said[0]),
        "discriminator_fake": float(said[1]),
        "diversity": float(mean_distance(fake) / mean_distance(real)),
        "brightness": float(fake.mean() / real.mean()),
    }


def mean_distance(images: Tensor) -> Tensor:
    """Mean rms distance over all pairs of images ``(n, channels, y, x)``; ``()``."""
    distance = torch.pdist(images.flatten(1).float()).mean()
    return distance / math.sqrt(images[0].numel())
