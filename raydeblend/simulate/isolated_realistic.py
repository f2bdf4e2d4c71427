"""Isolated images of the realistic population: every group a sky of its own.

Galaxies are those of `raydeblend.simulate.population`, with stars among them.  Each group has its
own seeing, exposure time and, half of the groups, its own pixel scale.
"""

from __future__ import annotations

from dataclasses import replace

import galsim
import numpy as np
from numpy.typing import NDArray

from raydeblend.simulate.isolated import IsolatedGroup, make_group, render_all
from raydeblend.simulate.population.depth import as_observed
from raydeblend.simulate.population.draw import BRIGHT, draw_realistic
from raydeblend.simulate.population.field import draw_magnitudes
from raydeblend.simulate.population.seeing import draw_seeing
from raydeblend.simulate.population.stamps import Stamps
from raydeblend.simulate.population.stars import draw_locus_stars
from raydeblend.survey import NJY_ZERO_POINT, Survey

STARS = 0.1
"""Of the images, which part is stars."""
STAR_AREA = 60.0
"""Square arcminutes whose stars are chosen from."""
BRIGHTEST_STAR = 18.5
"""In i; brighter ones saturate."""
EVEN = 1 / 3
"""Part of the galaxies whose magnitudes are evenly spread: what is deblended is bright more often
than galaxies are."""
EXPOSURE = (0.4, 1.6)
"""Range of the factor on the exposure time."""
PIXEL_SCALE = (0.15, 0.25)
"""Arcsec; half of the groups have a pixel scale from here, the others the survey's own."""


def realistic_group(
    survey: Survey,
    bands: tuple[str, ...],
    is_validation: NDArray[np.bool_],
    stamps: tuple[Stamps, Stamps],
    rng: np.random.Generator,
    size: int,
    faint: float,
) -> IsolatedGroup:
    """Render a group of the realistic population.

    Parameters
    ----------
    is_validation
        ``(n,)``, which images are kept for validation.
    stamps
        Real galaxies to train on and to validate with; each of their images is of its own side.
    size
        Side of the images in pixels.
    faint
        Faintest i magnitude (AB).
    """
    drawn = draw_sky(as_observed(survey), rng)
    psfs = draw_seeing(drawn, bands, rng)
    images = np.zeros((len(is_validation), len(bands), size, size), dtype=np.float16)
    is_star = rng.random(len(is_validation)) < STARS
    for side, own in zip((~is_validation, is_validation), stamps, strict=True):
        rows = np.flatnonzero(side & ~is_star)
        galaxies = draw_realistic(_magnitudes(len(rows), faint, rng), bands, rng, own)
        images[rows] = render_all(galaxies, drawn, psfs, rng, size)
    rows = np.flatnonzero(is_star)
    images[rows] = _stars(len(rows), drawn, bands, psfs, rng, size, faint)
    return make_group(images, drawn, bands, psfs)


def draw_sky(survey: Survey, rng: np.random.Generator) -> Survey:
    """Return the survey with another exposure time and maybe another pixel scale."""
    part = float(np.exp(rng.uniform(*np.log(EXPOSURE))))
    scale = float(rng.uniform(*PIXEL_SCALE)) if rng.random() < 0.5 else survey.pixel_scale
    area = (scale / survey.pixel_scale) ** 2
    bands = tuple(
        replace(
            band,
            electrons_per_njy=part * band.electrons_per_njy,
            sky_electrons=part * area * band.sky_electrons,
        )
        for band in survey.bands
    )
    return replace(survey, pixel_scale=scale, bands=bands)


def _magnitudes(n: int, faint: float, rng: np.random.Generator) -> NDArray[np.float64]:
    counted, even = draw_magnitudes(n, faint, rng), rng.uniform(BRIGHT, faint, n)
    return np.where(rng.random(n) < EVEN, even, counted)


def _stars(
    n: int,
    survey: Survey,
    bands: tuple[str, ...],
    psfs: tuple[galsim.GSObject, ...],
    rng: np.random.Generator,
    size: int,
    faint: float,
) -> NDArray[np.float32]:
    """Render `n` stars ``(n, bands, size, size)`` in sky sigmas."""
    flux = draw_locus_stars(STAR_AREA, bands, rng)
    reference = bands.index("i") if "i" in bands else -1
    magnitude = NJY_ZERO_POINT - 2.5 * np.log10(flux[:, reference])
    flux = flux[(magnitude > BRIGHTEST_STAR) & (magnitude < faint)]
    flux = flux[rng.integers(len(flux), size=n)]
    offsets = rng.uniform(-0.5, 0.5, (n, 2))
    images = np.zeros((n, len(bands), size, size), dtype=np.float32)
    for row, (own, offset) in enumerate(zip(flux, offsets, strict=True)):
        for band, psf in enumerate(psfs):
            light = psf * float(own[band] / survey.band(bands[band]).sky_sigma)
            images[row, band] = light.drawImage(
                nx=size, ny=size, scale=survey.pixel_scale, offset=tuple(offset)
            ).array
    return images
