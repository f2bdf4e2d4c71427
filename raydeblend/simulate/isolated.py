"""Isolated images: single galaxies behind one PSF, rendered once and blended on the fly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray

from raydeblend.simulate.galaxies import Galaxies, GalaxyTable
from raydeblend.survey import NJY_ZERO_POINT, Survey, draw_psf, psf_profile

FFT_LIMIT = 16384
"""Largest Fourier transform GalSim may use; very compact bulges need more than its default."""


@dataclass(frozen=True)
class IsolatedGroup:
    """Galaxies of one survey behind one PSF: the unit in which isolated images are stored.

    Attributes
    ----------
    images
        ``(n, bands, y, x)`` noiseless, centered within half a pixel, in units of each band's sky
        sigma.
    psf
        ``(bands, py, px)``.
    sky_sigma
        ``(bands,)`` sky noise in electrons: the Poisson variance of a source of I (sky sigma) is
        ``1 + I / sky_sigma``.
    """

    images: NDArray[np.float16]
    psf: NDArray[np.float32]
    sky_sigma: NDArray[np.float32]
    bands: tuple[str, ...]
    pixel_scale: float


def render_group(
    galaxies: Galaxies,
    survey: Survey,
    rng: np.random.Generator,
    size: int = 96,
    seeing: tuple[float, float] = (0.9, 1.15),
) -> IsolatedGroup:
    """Render each galaxy at a random angle and sub-pixel offset behind one random PSF.

    Parameters
    ----------
    seeing
        Range of the factor on the survey's median PSF width; bands differ by another 3 %.
    size
        Side of the stamps in pixels.
    """
    common = rng.uniform(*seeing)
    factors = common * (1 + 0.03 * rng.standard_normal(len(galaxies.bands)))
    psfs = [
        psf_profile(survey, band, survey.band(band).psf_fwhm * factor)
        for band, factor in zip(galaxies.bands, factors, strict=True)
    ]
    images = render_all(galaxies, survey, psfs, rng, size)
    return make_group(images, survey, galaxies.bands, psfs)


def make_group(
    images: NDArray[np.float16],
    survey: Survey,
    bands: tuple[str, ...],
    psfs: Sequence[galsim.GSObject],
) -> IsolatedGroup:
    """Return images ``(n, bands, y, x)`` in sky sigmas with what is known of them."""
    return IsolatedGroup(
        images=images,
        psf=np.stack([draw_psf(psf, survey.pixel_scale) for psf in psfs]),
        sky_sigma=np.array(
            [np.sqrt(survey.band(band).sky_electrons) for band in bands], dtype=np.float32
        ),
        bands=bands,
        pixel_scale=survey.pixel_scale,
    )


def render_all(
    galaxies: GalaxyTable,
    survey: Survey,
    psfs: Sequence[galsim.GSObject],
    rng: np.random.Generator,
    size: int,
) -> NDArray[np.float16]:
    """Render each galaxy ``(n, bands, size, size)`` at a random angle and sub-pixel offset."""
    angles = rng.uniform(0, 360, len(galaxies))
    offsets = rng.uniform(-0.5, 0.5, (len(galaxies), 2))
    images = np.zeros((len(galaxies), len(psfs), size, size), dtype=np.float16)
    for row in range(len(galaxies)):
        images[row] = render_galaxy(galaxies, row, survey, psfs, size, angles[row], offsets[row])
    return images


def render_galaxy(
    galaxies: GalaxyTable,
    row: int,
    survey: Survey,
    psfs: Sequence[galsim.GSObject],
    size: int,
    angle: float = 0.0,
    offset: NDArray[np.float64] | tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.float32]:
    """Render one galaxy ``(bands, size, size)`` in sky sigmas, `offset` (x, y) px off center."""
    image = np.zeros((len(psfs), size, size), dtype=np.float32)
    gsparams = galsim.GSParams(maximum_fft_size=FFT_LIMIT)
    for band, psf in enumerate(psfs):
        table = survey.band(galaxies.bands[band])
        flux = 10 ** (0.4 * (NJY_ZERO_POINT - galaxies.magnitude[row, band])) / table.sky_sigma
        shape = galaxies.profile(row, band).rotate(angle * galsim.degrees)
        observed = galsim.Convolve(shape, psf, gsparams=gsparams) * flux
        image[band] = observed.drawImage(
            nx=size, ny=size, scale=survey.pixel_scale, offset=tuple(offset)
        ).array
    return image
