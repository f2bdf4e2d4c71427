"""Pairs of low- and high-resolution images, made on the training device (Hemmati et al. 2022, §2).

Sharp galaxies are flipped, shifted and summed; the sum is blurred by the matching kernel (a
product in Fourier space), rebinned 3×3, and noise of HSC's depth is added.  Images are in sky
sigmas of the coarse pixels, the unit in which `raydeblend.deblend` knows any image.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raydeblend.instruments import COUNTERPARTS, FACTOR, FINE_SCALE, hst_psf
from raydeblend.simulate.degrade import Degradation, hsc_degradation
from raydeblend.simulate.sharp import SharpGalaxies
from raydeblend.survey import draw_psf, get_survey

MAX_SOURCES = 3
MARGIN = 18
"""Fine pixels around the stamp from which light falls into it."""
PSF_SIZE = 41
NO_SOURCE = float("nan")


@dataclass(frozen=True)
class PairRecipe:
    """What the pairs look like.

    Attributes
    ----------
    low
        Side of the low-resolution stamp; the high-resolution one has three times as many pixels.
    spread
        Standard deviation in fine pixels of a galaxy's shift along each axis ("drawn from a
        normal distribution", section 5; its width is not printed).
    n_sources
        Probability of 0, 1, 2 and 3 galaxies.
    seeing
        Range of the factor on HSC's median seeing, and number of steps in it.
    brighten
        Images are 10^u times as significant, u uniform between 0 and this, in one of three:
        surveys deeper than HSC's Wide.
    """

    low: int = 22
    spread: float = 6.0
    n_sources: tuple[float, float, float, float] = (0.03, 0.27, 0.55, 0.15)
    seeing: tuple[float, float, int] = (0.9, 1.3, 9)
    brighten: float = 0.0

    @property
    def field(self) -> int:
        """Side of the scene in fine pixels."""
        return self.low * FACTOR + 2 * MARGIN


@dataclass(frozen=True)
class SharpPool:
    """Galaxies and optics in memory.

    Attributes
    ----------
    images
        ``(n, bands, y, x)`` in nJy; float16.
    kernels
        ``(seeings, bands, field, field // 2 + 1)`` transforms of the matching kernels.
    sky_sigma
        ``(bands, 1, 1)`` nJy in a coarse pixel.
    electrons
        ``(bands, 1, 1)`` per nJy.
    """

    images: Tensor
    kernels: Tensor
    sky_sigma: Tensor
    electrons: Tensor

    def to(self, device: torch.device) -> SharpPool:
        """Return the same on another device."""
        return SharpPool(*(getattr(self, item.name).to(device) for item in fields(self)))


@dataclass(frozen=True)
class PairBatch:
    """A batch of pairs, in sky sigmas of the coarse pixels.

    Attributes
    ----------
    low
        ``(n, bands, y, x)`` with noise.
    high
        ``(n, bands, 3 y, 3 x)`` what HST sees.
    xy
        ``(n, MAX_SOURCES, 2)`` centers (x, y) in fine pixels; NaN where there is no source.
    n_sources
        ``(n,)``.
    """

    low: Tensor
    high: Tensor
    xy: Tensor
    n_sources: Tensor


def make_pool(galaxies: SharpGalaxies, recipe: PairRecipe) -> SharpPool:
    """Return the galaxies with the optics and noise of HSC's bands nearest to theirs."""
    low, high, steps = recipe.seeing
    factors = np.linspace(low, high, steps)
    kernels = [
        [_kernel(band, factor, recipe.field) for band in galaxies.bands] for factor in factors
    ]
    degradations = [_degradation(band, 1.0) for band in galaxies.bands]
    return SharpPool(
        images=torch.from_numpy(galaxies.images),
        kernels=torch.from_numpy(np.array(kernels)).to(torch.complex64),
        sky_sigma=torch.tensor([d.sky_sigma for d in degradations])[:, None, None],
        electrons=torch.tensor([d.electrons_per_njy for d in degradations])[:, None, None],
    )


def _degradation(band: str, factor: float) -> Degradation:
    psf = draw_psf(hst_psf(band), FINE_SCALE, PSF_SIZE)
    median = get_survey("HSC").band(COUNTERPARTS[band]).psf_fwhm
    return hsc_degradation(psf, band, FINE_SCALE, FACTOR, fwhm=factor * median)


def _kernel(band: str, factor: float, field: int) -> NDArray[np.complex128]:
    kernel = _degradation(band, factor).kernel
    # Periodic: what leaves the field on one side is far from the stamp on the other.
    whole = np.zeros((field, field))
    around = np.arange(len(kernel)) - len(kernel) // 2
    whole[np.ix_(around % field, around % field)] = kernel
    return np.fft.rfft2(whole)


def compose_pairs(
    pool: SharpPool,
    n: int,
    recipe: PairRecipe,
    generator: torch.Generator,
    n_sources: int | None = None,
) -> PairBatch:
    """Draw `n` pairs on the pool's device; all of `n_sources` galaxies if that is given."""
    device, bands = pool.images.device, pool.images.shape[1]
    counts = torch.multinomial(
        torch.tensor(recipe.n_sources, device=device), n, replacement=True, generator=generator
    )
    if n_sources is not None:
        counts = torch.full_like(counts, n_sources)
    scene = torch.zeros(n, bands, recipe.field, recipe.field, device=device)
    xy = torch.full((n, MAX_SOURCES, 2), NO_SOURCE, device=device)
    for k in range(MAX_SOURCES):
        rows = torch.nonzero(counts > k)[:, 0]
        placed, where = _place(pool.images, len(rows), recipe, generator)
        scene[rows] += placed
        xy[rows, k] = where - MARGIN
    seeing = torch.randint(len(pool.kernels), (n,), generator=generator, device=device)
    deeper = _brightening(n, recipe, generator)
    low = _observe(pool, scene, seeing, deeper, generator)
    inside = slice(MARGIN, recipe.field - MARGIN)
    return PairBatch(low, scene[:, :, inside, inside] / pool.sky_sigma * deeper, xy, counts)


def draw_low(galaxies: SharpGalaxies, n: int, recipe: PairRecipe, seed: int) -> NDArray[np.float32]:
    """Draw what HSC sees of `n` pairs, ``(n, bands, y, x)`` in sky sigmas."""
    generator = torch.Generator().manual_seed(seed)
    return compose_pairs(make_pool(galaxies, recipe), n, recipe, generator).low.numpy()


def _brightening(n: int, recipe: PairRecipe, generator: torch.Generator) -> Tensor:
    """Return ``(n, 1, 1, 1)`` how many times more significant each image is."""
    exponent, chance = torch.rand((2, n), generator=generator, device=generator.device)
    factor = torch.where(chance < 1 / 3, 10 ** (recipe.brighten * exponent), 1.0)
    return factor[:, None, None, None]


def _place(
    images: Tensor, n: int, recipe: PairRecipe, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return ``(n, bands, field, field)`` single galaxies, and ``(n, 2)`` their centers (x, y)."""
    device, size, field = images.device, images.shape[-1], recipe.field
    row = torch.randint(len(images), (n,), generator=generator, device=device)
    shift = torch.randn((n, 2), generator=generator, device=device) * recipe.spread
    shift = shift.round().long().clamp(-3 * MARGIN // 2, 3 * MARGIN // 2)
    flip = torch.rand((n, 2), generator=generator, device=device) < 0.5
    pixel = (size - field) // 2 - shift[:, :, None] + torch.arange(field, device=device)
    inside = (pixel >= 0) & (pixel < size)
    pixel = torch.where(flip[:, :, None], size - 1 - pixel, pixel).clamp(0, size - 1)
    bands = torch.arange(images.shape[1], device=device)[:, None, None]
    y, x = pixel[:, 0, None, :, None], pixel[:, 1, None, None, :]
    cut = images[row[:, None, None, None], bands, y, x].float()
    cut = cut * (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]
    center = (field - 1) / 2 + shift.float()
    transpose = torch.rand(n, generator=generator, device=device) < 0.5
    cut = torch.where(transpose[:, None, None, None], cut.transpose(-1, -2), cut)
    return cut, torch.where(transpose[:, None], center, center.flip(1))


def _observe(
    pool: SharpPool, scene: Tensor, seeing: Tensor, deeper: Tensor, generator: torch.Generator
) -> Tensor:
    """Return the noisy low-resolution images in sky sigmas."""
    blurred = torch.fft.irfft2(torch.fft.rfft2(scene) * pool.kernels[seeing], s=scene.shape[-2:])
    stamp = blurred[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
    flux = torch.nn.functional.avg_pool2d(stamp, FACTOR) * FACTOR**2
    noise = torch.randn(flux.shape, generator=generator, device=flux.device)
    photons = flux.clamp(min=0) / pool.electrons / pool.sky_sigma**2
    return deeper * flux / pool.sky_sigma + noise * torch.sqrt(1 + photons)
