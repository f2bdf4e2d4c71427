"""A small sky of Gaussian galaxies, cut into overlapping coadds with HSC's HDUs and PSF stamps."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

SKY, SCALE, NOISE = (300, 180), 0.168, 1.0
BANDS, COLORS = ("g", "r", "i"), (0.6, 0.8, 1.0)
NJY_PER_COUNT = 57.544
PSF_SIGMA, GALAXY_SIGMA = 1.8, 2.4
STEP = 36
"""Pixels between galaxies or pairs; every other place holds a pair."""


@cache
def galaxies() -> np.ndarray:
    """Columns x, y, flux in counts of i; away from the sky's rim."""
    rng = np.random.default_rng(3)
    places = np.stack(np.meshgrid(np.arange(24, 290, STEP), np.arange(24, 170, STEP)), -1)
    places = places.reshape(-1, 2) + rng.uniform(-4, 4, (places.size // 2, 2))
    angle = rng.uniform(0, 2 * np.pi, len(places))
    beside = places + 9 * np.stack([np.cos(angle), np.sin(angle)], -1)
    xy = np.concatenate([places, beside[::2]])
    return np.column_stack([xy, 10 ** rng.uniform(3, 4, len(xy))])


@cache
def pixels() -> np.ndarray:
    """The sky ``(bands, y, x)`` in counts."""
    y, x = np.mgrid[: SKY[1], : SKY[0]]
    light = np.zeros((SKY[1], SKY[0]))
    for gx, gy, flux in galaxies():
        blob = np.exp(-((x - gx) ** 2 + (y - gy) ** 2) / (2 * GALAXY_SIGMA**2))
        light += flux * blob / (2 * np.pi * GALAXY_SIGMA**2)
    noise = np.random.default_rng(4).normal(0, NOISE, (len(BANDS), *light.shape))
    return np.asarray(np.array(COLORS)[:, None, None] * light + noise, dtype=np.float32)


def sky_wcs(x0: int = 0, y0: int = 0) -> WCS:
    """The WCS of the part of the sky that begins at pixel (x0, y0)."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [1 + SKY[0] / 2 - x0, 1 + SKY[1] / 2 - y0]
    wcs.wcs.cdelt = [-SCALE / 3600, SCALE / 3600]
    return wcs


def write_coadd(path: Path, band: str, x0: int, y0: int, width: int, height: int) -> None:
    """Write one patch in one band: image, mask, variance, named by EXTTYPE as HSC does."""
    image = pixels()[BANDS.index(band), y0 : y0 + height, x0 : x0 + width]
    cards = sky_wcs(x0, y0).to_header()
    mask = fits.ImageHDU(np.zeros(image.shape, np.int32), cards)
    mask.header.update({"HIERARCH MP_BAD": 0, "HIERARCH MP_SAT": 1})
    variance = fits.ImageHDU(np.full(image.shape, NOISE**2, np.float32), cards)
    planes = [fits.ImageHDU(image, cards), mask, variance]
    for plane, name in zip(planes, ("IMAGE", "MASK", "VARIANCE"), strict=True):
        plane.header["EXTTYPE"] = name
    primary = fits.PrimaryHDU()
    primary.header["FLUXMAG0"] = 10 ** (0.4 * 27.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList([primary, *planes]).writeto(path)


def write_psf(path: Path, shape: tuple[int, int] = (41, 43), sigma: float = PSF_SIGMA) -> None:
    """Write a stamp as the PSF picker does: one image, odd sides, not square."""
    y, x = (np.arange(side) - side // 2 for side in shape)
    stamp = np.exp(-(y[:, None] ** 2 + x**2) / (2 * sigma**2))
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU((stamp / stamp.sum()).astype(np.float32)).writeto(path)
