"""Tiles of Gaussian galaxies: cheap to make, and it is known how many there are and where."""

from __future__ import annotations

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from raydeblend.fits import write_band

BANDS, COLORS = ("g", "r", "i"), (0.6, 0.8, 1.0)
PROJECTION = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 1.0, "CRPIX2": 1.0,
              "CDELT1": -0.168 / 3600, "CDELT2": 0.168 / 3600}  # fmt: skip
PSF_SIGMA, NOISE, REACH = 1.8, 1.0, 12

Array = NDArray[np.float64]


def draw_galaxies(xy: Array, flux: Array, sigma: Array, size: int) -> Array:
    """Return ``(size, size)`` light of round galaxies at ``(n, 2)`` positions (x, y)."""
    light = np.zeros((size, size))
    for (x, y), f, s in zip(xy, flux, sigma, strict=True):
        rows, columns = (np.arange(max(int(p) - REACH, 0), min(int(p) + REACH, size))
                         for p in (y, x))  # fmt: skip
        blob = np.outer(_profile(rows - y, s), _profile(columns - x, s))
        light[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += f * blob
    return light


def _profile(offset: Array, sigma: float) -> Array:
    return np.exp(-(offset**2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)


def write_tile(
    folder: str, name: str, light: Array, ra: float = 150.0, dec: float = 2.0, seed: int = 2
) -> None:
    """Write light as a tile of three bands with noise and a Gaussian PSF; (ra, dec) is a corner."""
    rng, around = np.random.default_rng(seed), np.arange(-15.0, 16)
    psf = np.outer(_profile(around, PSF_SIGMA), _profile(around, PSF_SIGMA))
    header = fits.Header({**PROJECTION, "CRVAL1": ra, "CRVAL2": dec})
    for band, color in zip(BANDS, COLORS, strict=True):
        image = (color * light + rng.normal(0, NOISE, light.shape)).astype(np.float32)
        variance = np.full(light.shape, NOISE**2, np.float32)
        write_band(
            f"{folder}/{name}_{band}.fits", image, np.zeros(light.shape, np.int32), variance,
            header, psf / psf.sum(), 10 ** (0.4 * 27), {"BAD": 0},
        )  # fmt: skip
