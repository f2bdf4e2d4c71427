"""What the second pass of the deblender sees: blends less its own models of the neighbors.

The deblender `vae` encodes every galaxy of a blend, takes the models of the others off and
encodes each again.  Not in the paper, whose network sees a blend once.  What bright neighbors
leave is nothing that an encoder of whole blends has seen, so that it is made here in training, by
the network as it is at that moment.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from raydeblend.networks.scaling import Scaling
from raydeblend.train.vae_blends import CenteredBatch
from raydeblend.train.vae_steps import encode_decode


@torch.no_grad()
def second_pass(
    network: nn.Module,
    batch: CenteredBatch,
    scaling: Scaling,
    part: float,
    jitter: int,
    generator: torch.Generator,
) -> CenteredBatch:
    """Take models of neighbors off the images, where they are known.

    Parameters
    ----------
    part
        Of the neighbors that is taken off: not every one is detected, and the first pass sees
        all of them.
    jitter
        Most whole pixels along each axis by which a neighbor is detected off its place.

    Returns
    -------
    batch
        With other images; pixels beyond the edge of a stamp stay 0.
    """
    device, most = batch.image.device, batch.shifts.shape[1]
    known = torch.arange(most, device=device) < batch.n_neighbors[:, None]
    known &= torch.rand(known.shape, generator=generator, device=device) < part
    off = torch.randint(-jitter, jitter + 1, batch.shifts.shape, generator=generator, device=device)
    image = batch.image.clone()
    for k in range(most):
        rows = known[:, k].nonzero()[:, 0]
        if len(rows):
            shift = batch.shifts[rows, k] + off[rows, k]
            image[rows] -= neighbor_models(network, batch.image[rows], shift, scaling)
    return replace(batch, image=image)


def neighbor_models(network: nn.Module, image: Tensor, shift: Tensor, scaling: Scaling) -> Tensor:
    """Encode and decode ``(n, bands, y, x)`` about the neighbors; 0 beyond the stamps' edges.

    `shift` ``(n, 2)`` is how far (y, x) they are from the middle.
    """
    model, *_ = encode_decode(
        network, moved(image, -shift), scaling, image.new_zeros(len(image), latent_of(network))
    )
    inside = (image != 0).any(dim=1, keepdim=True)
    return moved(model, shift) * inside


def latent_of(network: nn.Module) -> int:
    """Return the number of latent variables of a `Vae` or its data-parallel wrapper."""
    own: Any = getattr(network, "module", network)
    return int(own.config.latent)


def moved(images: Tensor, shift: Tensor) -> Tensor:
    """Move images ``(n, bands, y, x)`` by whole pixels ``(n, 2)`` (y, x); 0 comes in."""
    n, bands, height, width = images.shape
    y = torch.arange(height, device=images.device) - shift[:, :1]
    x = torch.arange(width, device=images.device) - shift[:, 1:]
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None]
    rows, columns = y.clamp(0, height - 1), x.clamp(0, width - 1)
    index = (rows[:, :, None] * width + columns[:, None])[:, None].expand(n, bands, height, width)
    return images.flatten(2).gather(2, index.flatten(2)).view_as(images) * inside[:, None]
