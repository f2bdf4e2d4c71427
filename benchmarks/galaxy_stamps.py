"""GalSim galaxies of known truth for the photometry benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import galsim
import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.profiles import BULGE_RADIUS
from raydeblend.survey import draw_psf, get_survey, psf_profile
from raydeblend.tile import Blend, Box

Array = NDArray[np.float64]

BANDS = ("g", "r", "i")
FLUX = np.array([6000.0, 10000.0, 15000.0])
SIZE = 48
PSF_SIZE = 41


@dataclass(frozen=True)
class Sky:
    """A survey's PSFs, as GalSim draws with them and as the fit is given them.

    Attributes
    ----------
    profiles
        One per band; the pixel is part of them where `pixel` is false.
    stamps
        ``(bands, PSF_SIZE, PSF_SIZE)``, normalized.
    """

    profiles: tuple[galsim.GSObject, ...]
    stamps: NDArray[np.float32]
    pixel_scale: float
    pixel: bool

    def draw(self, galaxy: galsim.GSObject, xy: Array, size: int = SIZE) -> Array:
        """Draw a galaxy of unit flux ``(bands, size, size)`` at (x, y)."""
        offset = tuple(xy - (size - 1) / 2)
        method = "auto" if self.pixel else "no_pixel"
        images = [
            galsim.Convolve(galaxy, psf).drawImage(
                nx=size, ny=size, scale=self.pixel_scale, offset=offset, method=method
            )
            for psf in self.profiles
        ]
        return np.stack([np.asarray(image.array, dtype=float) for image in images])


def open_sky(survey_name: str, truncated: bool = True) -> Sky:
    """Return a survey's PSFs: the stamps themselves, or the profiles that they were cut from."""
    survey = get_survey(survey_name)
    profiles = [psf_profile(survey, band) for band in BANDS]
    stamps = np.stack([draw_psf(psf, survey.pixel_scale, PSF_SIZE) for psf in profiles])
    if truncated:
        profiles = [
            galsim.InterpolatedImage(
                galsim.Image(stamp.astype(float), scale=survey.pixel_scale), flux=1.0
            )
            for stamp in stamps
        ]
    return Sky(tuple(profiles), stamps, survey.pixel_scale, not truncated)


@dataclass(frozen=True)
class Galaxy:
    """Parameters of one galaxy: half-light radius in arcsec, shape, place and total S/N."""

    radius: float
    g1: float
    g2: float
    xy: Array
    snr: float
    bulge: float

    def profile(self, model: str) -> galsim.GSObject:
        """Return the sheared profile of unit flux."""
        return _round(model, self.radius, self.bulge).shear(g1=self.g1, g2=self.g2)

    def sheared(self, angle: float, shear: complex) -> Galaxy:
        """Return the galaxy turned by `angle` (radian) and then sheared."""
        g = complex(self.g1, self.g2) * np.exp(2j * angle)
        g = (g + shear) / (1 + np.conj(shear) * g)
        return replace(self, g1=g.real, g2=g.imag)


def _round(model: str, radius: float, bulge: float) -> galsim.GSObject:
    if model == "exp":
        return galsim.Exponential(half_light_radius=radius)
    if model == "dev":
        return galsim.DeVaucouleurs(half_light_radius=radius)
    if model == "gauss":
        return galsim.Gaussian(half_light_radius=radius)
    disk = galsim.Exponential(half_light_radius=radius)
    center = galsim.DeVaucouleurs(half_light_radius=radius * BULGE_RADIUS)
    return (1 - bulge) * disk + bulge * center


def draw_galaxies(n: int, rng: np.random.Generator, snr: tuple[float, float]) -> list[Galaxy]:
    """Draw radii of 0.2" to 0.6", |g| of 0 to 0.5 and S/N uniform in its logarithm."""
    shape = rng.uniform(0, 0.5, n) * np.exp(2j * rng.uniform(0, np.pi, n))
    middle = (SIZE - 1) / 2
    return [
        Galaxy(radius, g.real, g.imag, xy, s, bulge)
        for radius, g, xy, s, bulge in zip(
            rng.uniform(0.2, 0.6, n),
            shape,
            middle + rng.uniform(-0.5, 0.5, (n, 2)),
            np.exp(rng.uniform(*np.log(snr), n)),
            rng.uniform(0, 0.6, n),
            strict=True,
        )
    ]


def observe(galaxy: Galaxy, model: str, sky: Sky, noise: Array) -> Blend:
    """Draw a galaxy in `noise` ``(bands, SIZE, SIZE)`` of unit variance, at its S/N."""
    clean = FLUX[:, None, None] * sky.draw(galaxy.profile(model), galaxy.xy)
    sigma = float(np.sqrt((clean**2).sum()) / galaxy.snr)
    return make_blend(clean + sigma * noise, np.full(clean.shape, sigma**2), galaxy.xy[None])


def make_blend(image: Array, variance: Array, xy: Array) -> Blend:
    """Return a footprint that fills its stamp, without masks."""
    return Blend(
        parent_id=1,
        box=Box(0, 0, *image.shape[1:]),
        image=image.astype(np.float32),
        variance=variance.astype(np.float32),
        unusable=np.zeros(image.shape, dtype=bool),
        footprint=np.ones(image.shape[1:], dtype=bool),
        xy=xy.astype(np.float32),
    )


def observe_all(
    galaxies: Sequence[Galaxy], model: str, sky: Sky, rng: np.random.Generator
) -> list[Blend]:
    """Observe every galaxy in its own noise."""
    return [observe(g, model, sky, rng.normal(size=(len(BANDS), SIZE, SIZE))) for g in galaxies]
