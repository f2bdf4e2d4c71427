"""Blends about a centered galaxy, made on the training device (Nemani et al. 2023, section 2).

One galaxy of an isolated group is centered, others are added in an annulus about it, and noise.
Unlike `raydeblend.train.blends.compose`, what is wanted is the centered galaxy, bright or faint.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raydeblend.train.blends import IsolatedImages


@dataclass(frozen=True)
class CenteredRecipe:
    """What the images look like.

    Attributes
    ----------
    stamp
        Side in pixels.
    jitter
        Most whole pixels along each axis by which the centered galaxy is off: peaks are.
    annulus
        Inner and outer radius, in pixels, of the ring in which other galaxies lie.
    n_neighbors
        Probability of 0, 1, 2 and 3 other galaxies.
    rescale
        Fluxes of an image are multiplied by 10^u, u uniform within plus and minus this: surveys
        of another depth.
    cropped
        Part of the images that is zero beyond a random box, as beyond the edge of a stamp.
    taken_off
        Part of the neighbors of which the network's own model is taken off, see `vae_passes`.
    """

    stamp: int = 64
    jitter: int = 0
    annulus: tuple[float, float] = (6.0, 20.0)
    n_neighbors: tuple[float, float, float, float] = (0.0, 1.0, 0.0, 0.0)
    rescale: float = 0.0
    cropped: float = 0.0
    taken_off: float = 0.0


@dataclass(frozen=True)
class CenteredBatch:
    """Images and the galaxy in the middle of each.

    Attributes
    ----------
    image
        ``(n, bands, y, x)`` in units of the sky noise.
    target
        The same shape: the centered galaxy alone, without noise.
    n_neighbors
        ``(n,)``.
    shifts
        ``(n, most, 2)`` whole pixels (y, x) of each neighbor from the middle; of no meaning
        beyond `n_neighbors`.
    """

    image: Tensor
    target: Tensor
    n_neighbors: Tensor
    shifts: Tensor


def compose_centered(
    isolated: IsolatedImages, n: int, recipe: CenteredRecipe, generator: torch.Generator
) -> CenteredBatch:
    """Draw `n` images on the device of the isolated images and of `generator`."""
    device = isolated.images.device
    weights = torch.tensor(recipe.n_neighbors, dtype=torch.float32, device=device)
    n_neighbors = torch.multinomial(weights, n, replacement=True, generator=generator)
    most = int(torch.nonzero(weights).max())
    group = torch.randint(len(isolated.count), (n,), generator=generator, device=device)
    uniform = torch.rand((n, most + 1), generator=generator, device=device)
    rows = isolated.start[group, None] + (uniform * isolated.count[group, None]).long()
    factor = 10 ** (recipe.rescale * (2 * torch.rand(n, generator=generator, device=device) - 1))

    target = _cut(isolated.images, rows[:, 0], _jitter(n, recipe, generator), recipe, generator)
    target = target * factor[:, None, None, None]
    scene = target.clone()
    shifts = torch.zeros((n, most, 2), dtype=torch.long, device=device)
    for k in range(most):
        shifts[:, k] = shift = _ring(n, recipe, generator)
        other = _cut(isolated.images, rows[:, k + 1], shift, recipe, generator)
        scene += other * (factor * (n_neighbors > k))[:, None, None, None]

    noise = torch.randn(scene.shape, generator=generator, device=device)
    # Poisson noise of sky and galaxies, in units of the sky's.
    noise *= torch.sqrt(1 + scene / isolated.sky_sigma[group, :, None, None])
    image = (scene + noise) * _inside_box(n, recipe, generator)[:, None]
    return CenteredBatch(image, target, n_neighbors, shifts)


def _jitter(n: int, recipe: CenteredRecipe, generator: torch.Generator) -> Tensor:
    """Whole-pixel shifts ``(n, 2)`` (y, x) of the centered galaxy."""
    low, high = -recipe.jitter, recipe.jitter + 1
    return torch.randint(low, high, (n, 2), generator=generator, device=generator.device)


def _ring(n: int, recipe: CenteredRecipe, generator: torch.Generator) -> Tensor:
    """Whole-pixel shifts ``(n, 2)`` (y, x), uniform over the area of the annulus."""
    inner, outer = recipe.annulus
    uniform = torch.rand((2, n), generator=generator, device=generator.device)
    radius = torch.sqrt(inner**2 + uniform[0] * (outer**2 - inner**2))
    angle = 2 * torch.pi * uniform[1]
    return torch.stack([radius * angle.sin(), radius * angle.cos()], dim=1).round().long()


def _cut(
    images: Tensor, rows: Tensor, shift: Tensor, recipe: CenteredRecipe, generator: torch.Generator
) -> Tensor:
    """Cut flipped and transposed stamps ``(n, bands, y, x)``, the galaxy moved by `shift`."""
    n, size, stamp, device = len(rows), images.shape[-1], recipe.stamp, images.device
    pixel = (size - stamp) // 2 - shift[:, :, None] + torch.arange(stamp, device=device)
    inside = (pixel >= 0) & (pixel < size)
    flip = torch.rand((n, 2), generator=generator, device=device) < 0.5
    pixel = torch.where(flip[:, :, None], size - 1 - pixel, pixel).clamp(0, size - 1)
    y, x = pixel[:, 0], pixel[:, 1]
    # Transposing swaps the axes of the source, never of the stamp, in which the shift is given.
    swap = (torch.rand(n, generator=generator, device=device) < 0.5)[:, None, None]
    across = torch.where(swap, x[:, None, :], y[:, :, None])
    along = torch.where(swap, y[:, :, None], x[:, None, :])
    bands = torch.arange(images.shape[1], device=device)[:, None, None]
    cut = images[rows[:, None, None, None], bands, across[:, None], along[:, None]].float()
    return cut * (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]


def _inside_box(n: int, recipe: CenteredRecipe, generator: torch.Generator) -> Tensor:
    """Which pixels ``(n, y, x)`` lie within each image's box; all for most images."""
    half = recipe.stamp // 2
    edges = torch.randint(half // 3, half, (n, 4), generator=generator, device=generator.device)
    whole = torch.rand(n, generator=generator, device=generator.device) >= recipe.cropped
    edges = torch.where(whole[:, None], half, edges)
    axis = torch.arange(recipe.stamp, device=generator.device) - half
    rows = (axis >= -edges[:, :1]) & (axis < edges[:, 1:2])
    columns = (axis >= -edges[:, 2:3]) & (axis < edges[:, 3:])
    return rows[:, :, None] & columns[:, None, :]
