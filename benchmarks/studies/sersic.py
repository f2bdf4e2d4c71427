"""Fluxes of Sérsic galaxies from the joint fit: ``python -m benchmarks.studies.sersic [--n 40]``.

Isolated galaxies of random shapes in HSC's usual seeing, three bands, white noise; each fitted with
a disk that is held exponential and with one of free index.
"""

from __future__ import annotations

import argparse
from itertools import product

import galsim
import numpy as np
from numpy.typing import NDArray

from benchmarks.circumstances import circumstances
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.evaluate.common.tables import markdown
from raydeblend.fit.priors import BulgeDiskPriors

Array = NDArray[np.float64]

SCALE, SIZE = 0.168, 72
COLORS = np.array([0.7, 1.0, 1.2])
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
INDICES = (0.6, 1.0, 2.5, 4.0)
RADII = (0.4, 0.8)
SNRS = (30, 100, 400)
HEADER = ["n", "r (arcsec)", "S/N", "exponential disk", "free index", "pull"]


def draw(index: float, radius: float, snr: float, n: int, seed: int) -> tuple[Array, Array]:
    """Return images ``(n, 3, SIZE, SIZE)`` with unit noise, and true fluxes ``(n, 3)``."""
    rng = np.random.default_rng(seed)
    images, fluxes = np.zeros((n, len(COLORS), SIZE, SIZE)), np.zeros((n, len(COLORS)))
    for i in range(n):
        angle = rng.uniform(0, np.pi) * galsim.radians
        profile = galsim.Sersic(index, half_light_radius=radius).shear(
            g=rng.uniform(0, 0.3), beta=angle
        )
        drawn = galsim.Convolve(profile, SEEING).drawImage(
            nx=SIZE, ny=SIZE, scale=SCALE, offset=rng.uniform(-0.5, 0.5, 2)
        )
        fluxes[i] = snr / np.sqrt(len(COLORS) * (drawn.array**2).sum()) * COLORS
        images[i] = fluxes[i][:, None, None] * drawn.array + rng.normal(size=images.shape[1:])
    return images, fluxes


def measure(deblender: JointDeblender, images: Array) -> tuple[Array, Array]:
    """Return fluxes and errors ``(n, 3)`` of the brightest source of each image."""
    psf = np.stack([SEEING.drawImage(nx=41, ny=41, scale=SCALE).array] * len(COLORS))
    found = deblender(images, np.ones_like(images), psf=psf, pixel_scale=SCALE)
    return found.extra["flux"][:, 0], found.extra["flux_err"][:, 0]


def table(n: int, seed: int) -> list[list[str]]:
    """Return one row for each kind of galaxy."""
    held = JointDeblender(priors=BulgeDiskPriors(index_width=1e-3))
    rows = []
    for index, radius, snr in product(INDICES, RADII, SNRS):
        images, fluxes = draw(index, radius, snr, n, seed)
        before, _ = measure(held, images)
        after, error = measure(JointDeblender(), images)
        biases = [f"{100 * np.nanmedian(flux / fluxes - 1):+.1f} %" for flux in (before, after)]
        pull = np.nanmedian((after - fluxes) / error)
        rows.append([f"{index:g}", f"{radius:g}", str(snr), *biases, f"{pull:+.1f}"])
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=40, help="galaxies of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(circumstances())
    print(markdown(HEADER, table(options.n, options.seed)))


if __name__ == "__main__":
    main()
