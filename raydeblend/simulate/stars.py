"""The foreground stars of a simulated field: counts and colors.

Counts: the fit of Bahcall & Soneira (1980, ApJS 44, 73, appendix B) to their disk + spheroid
Galaxy, stars per square degree brighter than V, in the direction of the COSMOS field.
Colors: Planck's law at the effective wavelength of each band, which covers every survey's bands.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.survey import NJY_ZERO_POINT, Survey

FloatArray = NDArray[np.float64]

# Galactic coordinates of COSMOS.
LONGITUDE, LATITUDE = np.deg2rad(236.8), np.deg2rad(42.1)
# Brighter stars bring haloes and bleed trails, which are not modeled and which surveys mask
# (Coupon et al. 2018, PASJ 70, S7).
BRIGHTEST, FAINTEST = 17.0, 27.0

# M5 to G8 dwarfs in the disk, G and F dwarfs up to the old turn-off in the spheroid; effective
# temperatures (K) of Pecaut & Mamajek 2013 (ApJS 208, 9).
DISK_TEMPERATURES = (3000.0, 5500.0)
SPHEROID_TEMPERATURES = (4800.0, 6500.0)

V_WAVELENGTH = 551.0  # nm (Bessell 2005, ARA&A 43, 293)
SECOND_RADIATION = 1.438777e7  # h c / k in nm K (CODATA 2018)


def disk_counts(v: FloatArray) -> FloatArray:
    """Disk stars per square degree brighter than `v`."""
    mu = np.interp(v, [12, 20], [0.03, 0.09])
    gamma = np.interp(v, [12, 20], [0.36, 0.04])
    slant = np.sin(LATITUDE) * (1 - mu * np.cos(LONGITUDE) / np.tan(LATITUDE))
    rise = 10 ** (0.035 * (v - 15.75)) / (1 + 10 ** (-0.132 * (v - 15.75))) ** 3
    return np.asarray(925 * rise / slant ** (3 - 5 * gamma))


def spheroid_counts(v: FloatArray) -> FloatArray:
    """Spheroid stars per square degree brighter than `v`."""
    towards_center = np.cos(LATITUDE) * np.cos(LONGITUDE)
    rise = 10 ** (0.087 * (v - 17.5)) / (1 + 10 ** (-0.180 * (v - 17.5))) ** 2.5
    return np.asarray(1050 * rise / (1 - towards_center) ** (1.45 - 0.20 * towards_center))


def draw_stars(
    area: float, survey: Survey, bands: tuple[str, ...], rng: np.random.Generator
) -> FloatArray:
    """Draw the stars between V = 17 and 27 in `area` arcmin²: ``(n, bands)`` fluxes in nJy."""
    fluxes = []
    for counts, temperatures in (
        (disk_counts, DISK_TEMPERATURES),
        (spheroid_counts, SPHEROID_TEMPERATURES),
    ):
        v = np.linspace(BRIGHTEST, FAINTEST, 201)
        brighter = (counts(v) - counts(v[:1])) * area / 3600
        n = rng.poisson(brighter[-1])
        magnitude = np.interp(rng.uniform(0, brighter[-1], n), brighter, v)
        flux_v = 10 ** (0.4 * (NJY_ZERO_POINT - magnitude))
        fluxes.append(_spectrum(flux_v, rng.uniform(*temperatures, n), survey, bands))
    return np.concatenate(fluxes)


def _spectrum(
    flux_v: FloatArray, temperature: FloatArray, survey: Survey, bands: tuple[str, ...]
) -> FloatArray:
    """Carry V fluxes to the bands; V is within 0.04 mag of AB (Frei & Gunn 1994)."""
    wavelengths = np.array([survey.band(band).wavelength for band in bands])
    color = planck(wavelengths, temperature[:, None]) / planck(V_WAVELENGTH, temperature[:, None])
    return np.asarray(flux_v[:, None] * color)


def planck(wavelength: float | FloatArray, temperature: FloatArray) -> FloatArray:
    """Planck's law per unit frequency, unnormalized: nu³ / (exp(h nu / k T) - 1); nm and K."""
    return np.asarray(wavelength**-3.0 / np.expm1(SECOND_RADIATION / wavelength / temperature))
