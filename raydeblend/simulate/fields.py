"""Crowded fields of LSST's ten-year depth, as MADNESS was tested on.

Biswas et al. 2025 (A&A 700, A129): 41 arcsec in u g r i z y, 12 to 20 galaxies of CatSim with a
signal to noise of at least 10 in r, within 15 arcsec of the middle along each axis: 48 to 80 per
square arcmin.  Numbers that the paper does not print are those of its published configuration.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend.errors import ConfigError
from raydeblend.simulate.galaxies import Galaxies, draw_galaxies, read_catsim
from raydeblend.simulate.heldout import is_held_out
from raydeblend.simulate.isolated import render_galaxy
from raydeblend.survey import Survey, draw_psf, get_survey, psf_profile

SURVEY = "LSST"
BANDS = ("u", "g", "r", "i", "z", "y")
SIZE = 205
"""Pixels; 41 arcsec."""
GALAXIES = (12, 20)
MAX_SHIFT = 15.0
"""Arcsec from the middle along each axis."""
SNR_BAND, MIN_SNR = "r", 10.0
FAINT = 26.8
"""In i; hardly a fainter galaxy reaches the signal to noise."""
HELD_OUT_BANDS = ("g", "r", "i")
"""In which the galaxies of a test set are recognized."""
ATTEMPTS = 10_000
"""Draws without a bright enough galaxy after which the catalog is given up."""


@dataclass(frozen=True)
class Field:
    """One field, in units of each band's sky sigma.

    Attributes
    ----------
    image
        ``(bands, y, x)`` with noise.
    isolated
        ``(k, bands, y, x)`` true images.
    xy
        ``(k, 2)`` true positions in pixels.
    ellipse
        ``(k, 3)`` of the half-light ellipse before the PSF: semi-axes in pixels, and the major
        axis's angle from x in radians, within a quarter turn.
    magnitude
        ``(k, bands)`` AB, total.
    """

    image: NDArray[np.float32]
    isolated: NDArray[np.float32]
    xy: NDArray[np.float64]
    ellipse: NDArray[np.float64]
    magnitude: NDArray[np.float64]


@dataclass(frozen=True)
class FieldSet:
    """Fields behind the same PSFs.

    Attributes
    ----------
    psf
        ``(bands, py, px)``.
    fwhm
        ``(bands,)`` seeing in pixels.
    """

    fields: tuple[Field, ...]
    psf: NDArray[np.float32]
    fwhm: NDArray[np.float64]
    bands: tuple[str, ...]
    pixel_scale: float


def draw_fields(
    n: int,
    seed: int,
    catalog: str | None = None,
    held_out: str | None = None,
    bands: tuple[str, ...] = BANDS,
) -> FieldSet:
    """Draw `n` fields.

    Parameters
    ----------
    catalog
        CatSim table to draw from; by default the parametric population.
    held_out
        Test set (.npz) whose galaxies, in training left out of that table, are the only ones
        drawn.
    bands
        With r among them.

    Raises
    ------
    ConfigError
        If `n` is not positive, or the catalog or the test set cannot be used.
    """
    if n < 1:
        raise ConfigError(f"the number of fields must be at least 1, not {n}")
    rng, survey = np.random.default_rng(seed), get_survey(SURVEY)
    pool = _pool(catalog, held_out, bands, rng, n)
    rows = _rows(len(pool), rng)
    return FieldSet(
        fields=tuple(_draw_field(pool, rows, survey, rng) for _ in range(n)),
        psf=np.stack([draw_psf(psf_profile(survey, b), survey.pixel_scale) for b in bands]),
        fwhm=np.array([survey.band(b).psf_fwhm / survey.pixel_scale for b in bands]),
        bands=bands,
        pixel_scale=survey.pixel_scale,
    )


def _pool(
    catalog: str | None,
    held_out: str | None,
    bands: tuple[str, ...],
    rng: np.random.Generator,
    n: int,
) -> Galaxies:
    if catalog is None:
        if held_out is not None:
            raise ConfigError("a test set tells which rows of --catalog are held out; name both")
        return draw_galaxies(4 * GALAXIES[1] * n, bands, rng, FAINT)
    pool = read_catsim(catalog, bands, FAINT)
    if held_out is not None:
        pool = pool.take(is_held_out(read_catsim(catalog, HELD_OUT_BANDS, FAINT), held_out))
    if len(pool) == 0:
        raise ConfigError(f"{catalog} has no galaxy to draw")
    return pool


def _rows(n: int, rng: np.random.Generator) -> Iterator[int]:
    """Yield rows for ever, all before any comes again."""
    while True:
        yield from rng.permutation(n).tolist()


def _draw_field(
    pool: Galaxies, rows: Iterator[int], survey: Survey, rng: np.random.Generator
) -> Field:
    k = int(rng.integers(GALAXIES[0], GALAXIES[1] + 1))
    drawn = [_draw_galaxy(pool, rows, survey, rng) for _ in range(k)]
    chosen, angle, shift, images = (list(column) for column in zip(*drawn, strict=True))
    isolated = np.stack(images)
    scene = isolated.sum(axis=0)
    sky = np.array([survey.band(band).sky_electrons for band in pool.bands])[:, None, None]
    noise = rng.normal(size=scene.shape) * np.sqrt(1 + scene / np.sqrt(sky))
    return Field(
        image=(scene + noise).astype(np.float32),
        isolated=isolated,
        # GalSim's offset is from the middle of the stamp.
        xy=np.stack(shift) + (SIZE - 1) / 2,
        ellipse=half_light_ellipses(pool, chosen, np.deg2rad(angle), survey.pixel_scale),
        magnitude=pool.magnitude[chosen],
    )


def _draw_galaxy(
    pool: Galaxies, rows: Iterator[int], survey: Survey, rng: np.random.Generator
) -> tuple[int, float, NDArray[np.float64], NDArray[np.float32]]:
    """Return row, angle in degrees, shift in pixels and image of the next bright galaxy."""
    psf = [psf_profile(survey, band) for band in pool.bands]
    sky = survey.band(SNR_BAND).sky_electrons
    limit = MAX_SHIFT / survey.pixel_scale
    for row, _ in zip(rows, range(ATTEMPTS), strict=False):
        angle, shift = float(rng.uniform(0, 360)), rng.uniform(-limit, limit, 2)
        image = np.maximum(render_galaxy(pool, row, survey, psf, SIZE, angle, shift), 0)
        if signal_to_noise(image[pool.bands.index(SNR_BAND)], sky) >= MIN_SNR:
            return row, angle, shift, image
    raise ConfigError(f"no galaxy of the catalog reaches a signal to noise of {MIN_SNR:g}")


def signal_to_noise(image: NDArray[np.floating], sky_electrons: float) -> float:
    """Signal to noise of a flux fitted with the true profile, source noise included.

    Parameters
    ----------
    image
        ``(y, x)`` in sky sigmas.
    """
    light = np.asarray(image, dtype=np.float64)
    return float(np.sqrt(np.sum(light**2 / (1 + light / np.sqrt(sky_electrons)))))


def half_light_ellipses(
    pool: Galaxies, rows: list[int], turn: NDArray[np.float64], pixel_scale: float
) -> NDArray[np.float64]:
    """Return the half-light ellipses ``(k, 3)`` of the larger component of each galaxy."""
    disk = _ellipse(pool.disk_radius[rows], pool.disk_g[rows])
    bulge = _ellipse(pool.bulge_radius[rows], pool.bulge_g[rows])
    larger = np.where((disk[:, 0] >= bulge[:, 0])[:, None], disk, bulge)
    larger[:, :2] /= pixel_scale
    larger[:, 2] = (larger[:, 2] + turn + np.pi / 2) % np.pi - np.pi / 2
    return larger


def _ellipse(radius: NDArray[np.float64], shear: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return semi-axes and angle of circularised radii ``(k,)`` and reduced shears ``(k, 2)``."""
    modulus = np.hypot(*shear.T)
    ratio = np.sqrt((1 - modulus) / (1 + modulus))
    return np.stack([radius / ratio, radius * ratio, np.arctan2(*shear.T[::-1]) / 2], axis=1)
