"""Fluxes of Sérsic galaxies from the joint fit: ``python -m benchmarks.studies.sersic [--n 40]``.

Isolated galaxies of random shapes in HSC's usual seeing, three bands, white noise: bias, how far
the fluxes scatter, over their errors, and how many deblends are not of high quality.
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

Array = NDArray[np.float64]

SCALE, SIZE = 0.168, 72
COLORS = np.array([0.7, 1.0, 1.2])
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
INDICES = (0.6, 1.0, 2.5, 4.0, 6.0)
RADII = (0.3, 0.6)
SNRS = (30, 60, 200, 800)
HEADER = ["n", "r (arcsec)", "S/N", "bias", "median pull", "width of pulls", "not of high quality"]


def draw(
    index: float, radius: float, snr: float, n: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Return images ``(n, 3, SIZE, SIZE)`` with unit noise, and true fluxes ``(n, 3)``."""
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


def table(n: int, seed: int) -> list[list[str]]:
    """Return one row for each kind of galaxy."""
    deblender = JointDeblender.load("cpu")
    psf = np.stack([SEEING.drawImage(nx=41, ny=41, scale=SCALE).array] * len(COLORS))
    rng, rows = np.random.default_rng(seed), []
    for index, radius, snr in product(INDICES, RADII, SNRS):
        images, fluxes = draw(index, radius, snr, n, rng)
        found = deblender(images, np.ones_like(images), psf=psf, pixel_scale=SCALE)
        flux, error = (found.extra[name][:, 0] for name in ("flux", "flux_err"))
        pull = (flux - fluxes) / error
        low, middle, high = np.nanpercentile(pull, (15.865, 50, 84.135))
        bias = 100 * np.nanmedian(flux / fluxes - 1)
        poor = np.mean([quality != "high" for quality in found.quality])
        rows.append(
            [f"{index:g}", f"{radius:g}", str(snr), f"{bias:+.1f} %", f"{middle:+.2f}",
             f"{(high - low) / 2:.2f}", f"{poor:.0%}"]
        )  # fmt: skip
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
