"""A small sky of Gaussian galaxies on one pixel grid, cut into FITS tiles."""

from functools import cache

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from raydeblend.fits import write_band

BANDS = ("g", "r", "i")
COLORS = (0.6, 0.8, 1.0)
SCALE = 0.168
SIZE = 420
NOISE = 1.0
FLUX_MAG0 = 10 ** (0.4 * 27.0)
PSF_SIGMA = 1.8


@cache
def galaxies():
    """Columns x, y, flux: pairs 8 to 14 pixels apart on a jittered grid, away from the rim."""
    rng = np.random.default_rng(5)
    first = np.stack(np.meshgrid(np.arange(30, 400, 60), np.arange(30, 400, 60)), -1)
    first = first.reshape(-1, 2) + rng.uniform(-8, 8, (49, 2))
    angle, apart = rng.uniform(0, 2 * np.pi, 49), rng.uniform(8, 14, 49)
    second = first + apart[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    flux = 10 ** rng.uniform(2.8, 4, 98)
    return np.column_stack([np.concatenate([first, second[:30]]), flux[:79]])


@cache
def pixels():
    """The sky ``(bands, y, x)`` in counts."""
    y, x = np.mgrid[:SIZE, :SIZE]
    light = np.zeros((SIZE, SIZE))
    for gx, gy, flux in galaxies():
        sigma = 2.5
        blob = np.exp(-((x - gx) ** 2 + (y - gy) ** 2) / (2 * sigma**2))
        light += flux * blob / (2 * np.pi * sigma**2)
    noise = np.random.default_rng(6).normal(0, NOISE, (len(BANDS), SIZE, SIZE))
    return (np.array(COLORS)[:, None, None] * light + noise).astype(np.float32)


def header(x0, y0):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [150.0, 2.0]
    wcs.wcs.crpix = [1 + SIZE / 2 - x0, 1 + SIZE / 2 - y0]
    wcs.wcs.cdelt = [-SCALE / 3600, SCALE / 3600]
    return wcs.to_header()


def psf():
    y, x = np.mgrid[-15:16, -15:16]
    stamp = np.exp(-(x**2 + y**2) / (2 * PSF_SIGMA**2))
    return (stamp / stamp.sum()).astype(np.float32)


def write_tile(folder, name, x0=0, y0=0, size=SIZE, bands=BANDS):
    """Write the part of the sky that begins at (x0, y0) as a tile."""
    shape = (size, size)
    for band in bands:
        image = pixels()[BANDS.index(band), y0 : y0 + size, x0 : x0 + size]
        write_band(
            f"{folder}/{name}_{band}.fits",
            image,
            np.zeros(shape, np.int32),
            np.full(shape, NOISE**2, np.float32),
            header(x0, y0),
            psf(),
            FLUX_MAG0,
            {"BAD": 0, "SAT": 1},
        )


def cut_off_wcs(path):
    """Take the WCS out of a file."""
    with fits.open(path, mode="update") as hdus:
        for card in ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2"):
            del hdus["IMAGE"].header[card]


def blank(path):
    """Make all pixels of a file NaN."""
    with fits.open(path, mode="update") as hdus:
        hdus["IMAGE"].data[:] = np.nan
