"""How the galaxies that a decoder draws change with its latent variables.

Forward-mode derivatives: all directions go through the decoder together, its values once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import jvp, vmap

PROBES = 16
PROBE_SPREAD = 0.5
"""Standard deviation of the latent variables at which directions are compared; those of
galaxies scatter by 0.3 to 0.6, as the weak prior of training leaves them."""
PROBE_SEED = 32


def galaxies(decoder: nn.Module, z: Tensor) -> Tensor:
    """Draw ``(n, bands, y, x)`` in noise units for ``(n, latent)``, differentiably."""
    shape, log_flux = decoder(z)
    drawn: Tensor = shape * log_flux.exp()[:, :, None, None]
    return drawn


def linearize(decoder: nn.Module, z: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the galaxies at z and their derivatives along some directions.

    Parameters
    ----------
    z
        ``(n, latent)``.
    directions
        ``(d, latent)``.

    Returns
    -------
    galaxies, tangents
        ``(n, bands, y, x)`` and ``(n, d, bands, y, x)``.
    """

    def drawn(at: Tensor) -> Tensor:
        return galaxies(decoder, at)

    def along(direction: Tensor) -> Tensor:
        change: Tensor = jvp(drawn, (z,), (direction.expand_as(z),))[1]
        return change

    tangents: Tensor = vmap(along, out_dims=1)(directions)
    return drawn(z), tangents


def main_directions(decoder: nn.Module, latent: int, count: int) -> Tensor:
    """Return the orthonormal directions ``(count, latent)`` that change galaxies most.

    Those of the largest mean squared change, relative to the galaxy's own norm, over `PROBES`
    latent vectors; always the same for the same decoder.
    """
    generator = torch.Generator().manual_seed(PROBE_SEED)
    probes = PROBE_SPREAD * torch.randn(PROBES, latent, generator=generator)
    device = next((p.device for p in decoder.parameters()), torch.device("cpu"))
    with torch.no_grad():
        drawn, tangents = linearize(decoder, probes.to(device), torch.eye(latent, device=device))
    relative = tangents.flatten(2) / drawn.flatten(1).norm(dim=1)[:, None, None]
    strength = (relative @ relative.transpose(1, 2)).mean(dim=0).double().cpu()
    _, vectors = torch.linalg.eigh(strength)
    chosen: Tensor = vectors.flip(1).T[: min(count, latent)].float().contiguous()
    return chosen
