"""Blends made on the training device: no two epochs are alike and no disk is read.

Isolated images of one group (one survey, one PSF) are drawn, flipped, shifted and summed, and
noise is added (Wang et al. 2022, section II.D: pixelwise sums, so that peeling is exact).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raydeblend.networks.context import context_planes
from raydeblend.train.gaps import draw_masks, draw_present, fill_masked, stand_ins

MAX_SOURCES = 4


@dataclass(frozen=True)
class IsolatedImages:
    """All groups' isolated images in memory, group after group.

    Attributes
    ----------
    images
        ``(n, bands, y, x)`` in sky sigmas; float16 on a CPU to save memory.
    start, count
        ``(groups,)`` first row and number of rows of each group.
    sky_sigma
        ``(groups, bands)`` sky noise in electrons.
    psf_width
        ``(groups, bands)`` pixels (sigma), see `raydeblend.networks.context`; 0 in a band that the
        group does not have.
    """

    images: Tensor
    start: Tensor
    count: Tensor
    sky_sigma: Tensor
    psf_width: Tensor

    def to(self, device: torch.device | str) -> IsolatedImages:
        """Return the same images on another device."""
        return IsolatedImages(*(tensor.to(device) for tensor in vars(self).values()))


@dataclass(frozen=True)
class BlendRecipe:
    """What the blends look like.

    Attributes
    ----------
    stamp
        Side of the blends in pixels, smaller than that of the isolated images.
    max_shift
        Largest shift of a galaxy from the stamp's center along each axis, in pixels (12 in
        Wang et al.'s protocol).
    n_sources
        Probability of 0, 1, 2, 3 and 4 galaxies.
    brighten
        Fluxes of a blend are multiplied by 10^u, u uniform between 0 and this, in one blend of
        three: deeper surveys than those rendered.
    noiseless
        Fraction of blends without noise (half, for the counter: section II.D).
    close, close_shift
        Fraction of blends in which all galaxies are within `close_shift` pixels of one of them
        along each axis.
    context
        Whether networks are shown `raydeblend.networks.context`.
    fewer_bands, masked
        Fractions of blends with a random part of their bands alone, and with masked pixels.
    """

    stamp: int = 64
    max_shift: int = 13
    n_sources: tuple[float, float, float, float, float] = (0.0, 0.15, 0.5, 0.25, 0.1)
    brighten: float = 1.0
    noiseless: float = 0.0
    close: float = 0.0
    close_shift: int = 5
    context: bool = False
    fewer_bands: float = 0.0
    masked: float = 0.0


@dataclass(frozen=True)
class BlendBatch:
    """A batch of blends with their truth.

    Attributes
    ----------
    blend
        ``(n, bands, y, x)`` in units of the sky noise.
    sources
        ``(n, MAX_SOURCES, bands, y, x)`` noiseless galaxies, brightest first, then zeros.
    n_sources
        ``(n,)``.
    context
        ``(n, planes, y, x)`` that a network is shown with the blend; no planes without context.
    """

    blend: Tensor
    sources: Tensor
    n_sources: Tensor
    context: Tensor


def compose(
    isolated: IsolatedImages, n: int, recipe: BlendRecipe, generator: torch.Generator
) -> BlendBatch:
    """Draw `n` blends on the device of the isolated images and of `generator`."""
    device = isolated.images.device
    group = torch.randint(len(isolated.count), (n,), generator=generator, device=device)
    weights = torch.tensor(recipe.n_sources, dtype=torch.float32, device=device)
    n_sources = torch.multinomial(weights, n, replacement=True, generator=generator)

    uniform = torch.rand((n, MAX_SOURCES), generator=generator, device=device)
    rows = isolated.start[group, None] + (uniform * isolated.count[group, None]).long()
    sources = _cut_out(isolated.images, rows, recipe, generator)
    present = torch.arange(MAX_SOURCES, device=device) < n_sources[:, None]
    sources = sources * present[:, :, None, None, None]
    sources = sources * _brightening(n, recipe, generator, device)
    sources = _brightest_first(sources)

    scene = sources.sum(dim=1)
    noise = torch.randn(scene.shape, generator=generator, device=device)
    # Poisson noise of sky and galaxies, in units of the sky's.
    noise *= torch.sqrt(1 + scene.clamp(min=0) / isolated.sky_sigma[group, :, None, None])
    noisy = torch.rand(n, generator=generator, device=device) >= recipe.noiseless
    blend, context = scene + noise * noisy[:, None, None, None], scene[:, :0]
    if recipe.context:
        psf_width = isolated.psf_width[group]
        blend, sources, context = _observed(blend, sources, psf_width, recipe, generator)
    return BlendBatch(blend, sources, n_sources, context)


def _observed(
    blend: Tensor,
    sources: Tensor,
    psf_width: Tensor,
    recipe: BlendRecipe,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return blends and sources as a survey with gaps has them, and their context.

    A missing band is replaced by another one, in the sources too: models are of what is shown.
    """
    present = draw_present(psf_width > 0, recipe.fewer_bands, generator)
    bands = stand_ins(present, generator)
    mask = draw_masks(blend, recipe.masked, generator)
    blend, mask = (_pick(planes, bands) for planes in (fill_masked(blend, mask), mask))
    sources = _brightest_first(_pick(sources.transpose(1, 2), bands).transpose(1, 2))
    unobserved = mask | ~present[:, :, None, None]
    return blend, sources, context_planes(unobserved, psf_width.gather(1, bands))


def _pick(planes: Tensor, bands: Tensor) -> Tensor:
    """Return the chosen `bands` ``(n, bands)`` of ``(n, bands, …)``."""
    return planes[torch.arange(len(planes), device=planes.device)[:, None], bands]


def _cut_out(
    images: Tensor, rows: Tensor, recipe: BlendRecipe, generator: torch.Generator
) -> Tensor:
    """Cut the images `rows` ``(n, k)`` randomly shifted, flipped and transposed.

    The stamps are ``(n, k, bands, y, x)``.
    """
    (n, k), size, stamp, device = rows.shape, images.shape[-1], recipe.stamp, images.device
    shift = torch.randint(
        -recipe.max_shift, recipe.max_shift + 1, (n, k, 2), generator=generator, device=device
    )
    flip = torch.rand((n, k, 2), generator=generator, device=device) < 0.5
    transpose = torch.rand((n, k), generator=generator, device=device) < 0.5
    if recipe.close:
        shift = _close_shifts(shift, transpose, recipe, generator)
    pixel = (size - stamp) // 2 + shift[..., None] + torch.arange(stamp, device=device)
    inside = (pixel >= 0) & (pixel < size)
    pixel = torch.where(flip[..., None], size - 1 - pixel, pixel).clamp(0, size - 1)
    bands = torch.arange(images.shape[1], device=device)[:, None, None]
    y, x = pixel[:, :, 0, None, :, None], pixel[:, :, 1, None, None]
    cut = images[rows[:, :, None, None, None], bands, y, x].float()
    cut = cut * (inside[:, :, 0, :, None] & inside[:, :, 1, None])[:, :, None]
    return torch.where(transpose[:, :, None, None, None], cut.transpose(-1, -2), cut)


def _close_shifts(
    shift: Tensor, transpose: Tensor, recipe: BlendRecipe, generator: torch.Generator
) -> Tensor:
    """Return shifts ``(n, k, 2)`` of which some blends' put all galaxies near their first."""
    reach, device = recipe.close_shift, shift.device
    # A stamp that is transposed is shifted along the other axis.
    place = torch.where(transpose[..., None], shift.flip(-1), shift)
    offset = torch.randint(-reach, reach + 1, shift.shape, generator=generator, device=device)
    offset[:, 0] = 0
    close = torch.rand(len(shift), generator=generator, device=device) < recipe.close
    place = torch.where(close[:, None, None], place[:, :1] + offset, place)
    return torch.where(transpose[..., None], place.flip(-1), place)


def _brightening(
    n: int, recipe: BlendRecipe, generator: torch.Generator, device: torch.device
) -> Tensor:
    exponent = recipe.brighten * torch.rand(n, generator=generator, device=device)
    chosen = torch.rand(n, generator=generator, device=device) < 1 / 3
    return torch.where(chosen, 10**exponent, 1.0)[:, None, None, None, None]


def _brightest_first(sources: Tensor) -> Tensor:
    order = sources.sum(dim=(2, 3, 4)).argsort(dim=1, descending=True)
    return sources.gather(1, order[:, :, None, None, None].expand_as(sources))
