"""What every adversarial step has: a discriminator's view of a batch, and the two losses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raydeblend.networks.forward import forward


def discriminate(discriminator: nn.Module, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logits of as many real as generated images ``(n, channels, y, x)``.

    Both go through together: batch normalization then sees the same mixture in the steps of
    either network and hides no difference between the two, and a data-parallel wrapper has one
    pass for each backward one.
    """
    logits_real, logits_fake = forward(discriminator, torch.cat([real, fake])).chunk(2)
    return logits_real, logits_fake


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return the cross-entropy of the logits (Goodfellow et al. 2014, equation 1, negative)."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def adversarial_loss(fake: Tensor, kind: str) -> Tensor:
    """Return what the generator lowers, from the logits of its images.

    log(1 - D), ``minimax``; or -log D (end of section 3 there), which also has a gradient while
    the discriminator is sure.
    """
    return -F.softplus(fake).mean() if kind == "minimax" else F.softplus(-fake).mean()


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Leave the network's parameters out of the graph."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
