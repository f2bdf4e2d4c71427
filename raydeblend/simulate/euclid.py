"""Isolated galaxies as Euclid's VIS camera sees them, analytic and real (Nemani et al. 2023).

The paper draws an EGG catalog (Schreiber et al. 2017) as double Sérsic profiles and takes the
realistic galaxies of the Euclid morphology challenge; neither is public as images.  Here sizes,
Sérsic indices and axis ratios come from the COSMOS F814W fits where their file is given, else
from distributions fitted to it, and the realistic galaxies are HST's.  The paper does not print
its faintest magnitude; 24.5 is Euclid's depth for extended sources (10 σ).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import galsim
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from raydeblend.errors import ConfigError
from raydeblend.simulate.galaxies import COUNTS_SLOPE
from raydeblend.simulate.isolated import FFT_LIMIT, IsolatedGroup
from raydeblend.survey import NJY_ZERO_POINT, Survey, draw_psf, get_survey

FloatArray = NDArray[np.float64]

SURVEY = "Euclid_VIS"
BANDS = ("IE",)
BRIGHTEST, FAINT = 18.0, 24.5
VALIDATION_MODULUS = 8
"""One galaxy in eight is never trained on, as in `raydeblend.simulate.shards`."""

# The COSMOS fits, checked against the fits that GalSim distributes for the 60 galaxies in both:
# reff_pix is the half-light radius along the major axis in pixels of 0.17 arcsec (the ratio to
# GalSim's 0.03 arcsec pixels is 17 / 3 for each), and mag is fainter than the total magnitude of
# the Sérsic profile by 0.44 in the median, with quartiles at 0.18 and 0.67.
REFF_PIXEL = 0.17
MAG_TO_TOTAL = -0.44
COMPLETE = 23.0
"""Total magnitude down to which the fits (F814W < 23.5) are complete; fainter galaxies are those
of this magnitude, smaller by LOG_SIZE_SLOPE."""
NEIGHBORS = 300
"""Rows of nearly the same magnitude among which one is drawn."""

# Fitted here to those fits at 22 < total magnitude < 23: ln of the circularised half-light radius
# (arcsec), of the Sérsic index (two classes) and a beta distribution of the axis ratio.
LOG_SIZE_AT_22, LOG_SIZE_SLOPE, LOG_SIZE_SIGMA = -1.02, -0.24, 0.53
INDEX_WEIGHT = 0.30
INDEX_MEDIANS, INDEX_SIGMAS = (1.0, 3.4), (0.5, 0.4)
INDEX_RANGE = (0.3, 6.0)
AXIS_RATIO_BETA, AXIS_RATIO_MIN = (2.9, 2.3), 0.15

# A new Sérsic index costs GalSim 9 ms, a repeated one 0.5 ms.
DISK_INDICES = np.array([0.5, 0.75, 1.0])
BULGE_INDICES = np.array([2.0, 2.5, 3.0, 3.5, 4.0])


@dataclass(frozen=True)
class SersicFits:
    """Single Sérsic fits, sorted by magnitude.

    Attributes
    ----------
    magnitude
        ``(n,)`` total AB magnitudes.
    radius
        ``(n,)`` half-light radii along the major axis in arcsec.
    index, axis_ratio
        ``(n,)``.
    galaxy
        ``(n,)`` row in the file, which identifies the galaxy.
    """

    magnitude: FloatArray
    radius: FloatArray
    index: FloatArray
    axis_ratio: FloatArray
    galaxy: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> SersicFits:
        """Return the chosen rows."""
        return SersicFits(*(values[rows] for values in vars(self).values()))


@dataclass(frozen=True)
class DoubleSersic:
    """``n`` galaxies of a bulge and a disk with one center and position angle.

    Attributes
    ----------
    magnitude, bulge_fraction
        ``(n,)`` total AB magnitude, and the bulge's part of the flux.
    radius, index, axis_ratio
        ``(n, 2)`` of disk and bulge: circularised half-light radius in arcsec, Sérsic index,
        minor over major axis.
    galaxy
        ``(n,)`` equal for two draws of the same galaxy; see `is_validation`.
    """

    magnitude: FloatArray
    bulge_fraction: FloatArray
    radius: FloatArray
    index: FloatArray
    axis_ratio: FloatArray
    galaxy: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.magnitude)


def is_validation(galaxy: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which galaxies are never trained on."""
    return np.asarray(galaxy % VALIDATION_MODULUS == 0)


@cache
def read_cosmos_sersic(path: str) -> SersicFits:
    """Read the COSMOS F814W Sérsic fits; rows whose fit failed are left out.

    Raises
    ------
    ConfigError
        If the file cannot be read or lacks a column.
    """
    try:
        table = Table.read(path)
        names = ("mag", "reff_pix", "sersic_n", "b_a")
        mag, radius, index, ratio = (np.asarray(table[name], dtype=float) for name in names)
    except (OSError, KeyError) as error:
        raise ConfigError(f"{path} is not a table of COSMOS Sérsic fits: {error}") from error
    radius = radius * REFF_PIXEL
    good = (index > 0.2) & (radius > 0.02) & (radius < 5) & (ratio > 0.05)
    order = np.argsort(mag, kind="stable")
    fits = SersicFits(mag + MAG_TO_TOTAL, radius, index, ratio, np.arange(len(mag)))
    return fits.take(order[good[order]])


def draw_euclid(
    n: int,
    rng: np.random.Generator,
    fits: SersicFits | None = None,
    faint: float = FAINT,
    validation: bool = False,
) -> DoubleSersic:
    """Draw `n` galaxies brighter than `faint`.

    Parameters
    ----------
    fits
        Whose shapes are drawn, at nearly the same magnitude; None: from the distributions.
    validation
        Only galaxies that are never trained on.
    """
    low, high = 10 ** (COUNTS_SLOPE * BRIGHTEST), 10 ** (COUNTS_SLOPE * faint)
    magnitude = np.log10(rng.uniform(low, high, n)) / COUNTS_SLOPE
    if fits is None:
        return _parametric(magnitude, rng, validation)
    chosen = fits.take(is_validation(fits.galaxy)) if validation else fits
    if not len(chosen.galaxy):
        raise ConfigError("the table of Sérsic fits holds no usable galaxy")
    return _resampled(magnitude, chosen, rng)


def _parametric(magnitude: FloatArray, rng: np.random.Generator, validation: bool) -> DoubleSersic:
    n = len(magnitude)
    log_size = LOG_SIZE_AT_22 + LOG_SIZE_SLOPE * (magnitude - 22)
    size = np.exp(log_size + LOG_SIZE_SIGMA * rng.standard_normal(n))
    kind = (rng.random(n) < INDEX_WEIGHT).astype(int)
    index = np.array(INDEX_MEDIANS)[kind] * np.exp(
        np.array(INDEX_SIGMAS)[kind] * rng.standard_normal(n)
    )
    ratio = np.clip(rng.beta(*AXIS_RATIO_BETA, n), AXIS_RATIO_MIN, 1)
    galaxy = rng.integers(1, 2**40, n) * (VALIDATION_MODULUS if validation else 1)
    return to_double(magnitude, size, np.clip(index, *INDEX_RANGE), ratio, galaxy)


def _resampled(magnitude: FloatArray, fits: SersicFits, rng: np.random.Generator) -> DoubleSersic:
    known = np.minimum(magnitude, COMPLETE)
    place = np.searchsorted(fits.magnitude, known)
    place = place + rng.integers(-NEIGHBORS, NEIGHBORS + 1, len(magnitude))
    row = np.clip(place, 0, len(fits.magnitude) - 1)
    size = fits.radius[row] * np.sqrt(fits.axis_ratio[row])
    size = size * np.exp(LOG_SIZE_SLOPE * (magnitude - known))
    return to_double(magnitude, size, fits.index[row], fits.axis_ratio[row], fits.galaxy[row])


def to_double(
    magnitude: FloatArray,
    size: FloatArray,
    index: FloatArray,
    axis_ratio: FloatArray,
    galaxy: NDArray[np.int64],
) -> DoubleSersic:
    """Turn single Sérsic galaxies into bulge and disk (our choice; EGG's catalog has both).

    The bulge's part rises with the index from 0 at n = 1 to 1 at n = 4; it is the smaller and
    rounder component, as in Miller et al. 2013 and Simard et al. 2002.
    """
    bulge = np.clip((index - 1) / 3, 0, 1)
    sizes = np.stack([size * (1 + 0.5 * bulge), size * (0.4 + 0.6 * bulge)], axis=1)
    indices = np.stack([_nearest(index, DISK_INDICES), _nearest(index, BULGE_INDICES)], axis=1)
    ratios = np.stack([axis_ratio, (1 + axis_ratio) / 2], axis=1)
    return DoubleSersic(magnitude, bulge, sizes, indices, ratios, galaxy)


def _nearest(values: FloatArray, grid: FloatArray) -> FloatArray:
    return np.asarray(grid[np.abs(values[:, None] - grid).argmin(axis=1)])


def double_sersic(galaxies: DoubleSersic, row: int) -> galsim.GSObject:
    """Return one galaxy's surface brightness with unit flux, major axis along x, before the PSF."""
    bulge = float(galaxies.bulge_fraction[row])
    parts = []
    for component, part in enumerate((1 - bulge, bulge)):
        if part > 0:
            sersic = galsim.Sersic(
                galaxies.index[row, component],
                half_light_radius=galaxies.radius[row, component],
                flux=part,
            )
            parts.append(
                sersic.shear(q=galaxies.axis_ratio[row, component], beta=0 * galsim.degrees)
            )
    return parts[0] if len(parts) == 1 else galsim.Sum(parts)


def vis_psf(survey: Survey, factor: float = 1.0) -> galsim.GSObject:
    """Return the PSF of VIS: the telescope's Airy pattern, blurred to the tabulated width.

    `factor` multiplies the width of the blur (jitter and charge diffusion).
    """
    band = survey.band(BANDS[0])
    optics = galsim.Airy(
        lam=band.wavelength, diam=survey.mirror_diameter, obscuration=survey.obscuration
    )
    # Widths add in quadrature nearly enough: 0.124 arcsec is this Airy pattern's.
    airy_fwhm = 0.124 * (band.wavelength / 750.6) * (1.2 / survey.mirror_diameter)
    blur = np.sqrt(band.psf_fwhm**2 - airy_fwhm**2) * factor
    return galsim.Convolve(optics, galsim.Gaussian(fwhm=float(blur)))


def render_euclid(
    galaxies: DoubleSersic, rng: np.random.Generator, size: int = 80
) -> IsolatedGroup:
    """Render each galaxy at a random angle, centered within half a pixel, behind one PSF.

    The images are noiseless, in units of the sky noise of VIS at its full depth: a limiting
    magnitude of 26.9 (1 σ in an aperture of 2 arcsec), the paper's m_lim = 27.1 within 0.2.
    """
    survey = get_survey(SURVEY)
    psf = vis_psf(survey)
    images = np.zeros((len(galaxies), 1, size, size), dtype=np.float16)
    for row in range(len(galaxies)):
        shape = double_sersic(galaxies, row)
        images[row, 0] = draw_profile(shape, psf, galaxies.magnitude[row], survey, rng, size)
    return group_of(images, psf, survey)


def group_of(images: NDArray[np.float16], psf: galsim.GSObject, survey: Survey) -> IsolatedGroup:
    """Return images ``(n, 1, y, x)`` in sky sigmas as a group behind one PSF."""
    sky = np.sqrt([survey.band(band).sky_electrons for band in BANDS]).astype(np.float32)
    stamp = draw_psf(psf, survey.pixel_scale)[None]
    return IsolatedGroup(images, stamp, sky, BANDS, survey.pixel_scale)


def draw_profile(
    shape: galsim.GSObject,
    psf: galsim.GSObject,
    magnitude: float,
    survey: Survey,
    rng: np.random.Generator,
    size: int,
    offset: tuple[float, float] | None = None,
) -> NDArray[np.float32]:
    """Draw a unit-flux galaxy ``(size, size)`` in sky sigmas at a random angle.

    `offset` (x, y) is in pixels from the middle; None: random within half a pixel.
    """
    flux = 10 ** (0.4 * (NJY_ZERO_POINT - magnitude)) / survey.band(BANDS[0]).sky_sigma
    turned = shape.rotate(rng.uniform(0, 360) * galsim.degrees)
    params = galsim.GSParams(maximum_fft_size=FFT_LIMIT)
    observed = galsim.Convolve(turned, psf, gsparams=params) * flux
    place = tuple(rng.uniform(-0.5, 0.5, 2)) if offset is None else offset
    image = observed.drawImage(nx=size, ny=size, scale=survey.pixel_scale, offset=place)
    return np.asarray(image.array, dtype=np.float32)
