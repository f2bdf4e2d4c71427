"""Stars in a PSF that is not theirs: ``python -m benchmarks.studies.star_psf [--n 20]``.

A star with two galaxies near it, three bands, HSC's usual seeing, white noise; the joint fit is
given a PSF that is broader, or narrower, by a factor.  Each cell of the table is without and with
the star's own PSF: reduced χ², rows a blend, how far the star's flux is off, and the galaxies'.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import galsim
import numpy as np
from numpy.typing import NDArray

from benchmarks.circumstances import circumstances
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.evaluate.common.tables import markdown

Array = NDArray[np.float64]

SCALE, SIZE = 0.168, 64
FWHM = (0.78, 0.70, 0.60)
SNRS = (100, 300, 1000, 3000)
BROADER = (0.95, 1.0, 1.01, 1.02, 1.05, 1.1, 1.2)
DISTANCE, PART = (7.0, 14.0), (0.03, 0.1)
"""Of a galaxy to the star in pixels, and of its flux in the star's."""
MATCH = 2.0
"""Pixels between a galaxy and its row."""
HEADER = ["S/N a band", "PSF", "χ²", "rows", "star's flux", "galaxies' flux"]


@dataclass(frozen=True)
class Sky:
    """One blend: ``(bands, y, x)``, true fluxes ``(3,)`` of all bands, the star's first, places."""

    image: Array
    flux: Array
    xy: Array


def seeing(fwhm: float) -> galsim.GSObject:
    """Return the PSF of a band."""
    return galsim.Moffat(beta=3.0, fwhm=fwhm).shear(g1=0.02, g2=-0.01)


def draw(snr: float, seed: int) -> Sky:
    """Draw a star of a signal to noise in each band, with two disks beside it."""
    rng = np.random.default_rng(seed)
    radius, angle = rng.uniform(*DISTANCE, 2), rng.uniform(0, 2 * np.pi, 2)
    away = (radius * np.array([np.cos(angle), np.sin(angle)])).T
    xy = (SIZE - 1) / 2 + np.concatenate([rng.uniform(-0.5, 0.5, (1, 2)), away])
    part, sizes = np.array([1.0, *rng.uniform(*PART, 2)]), rng.uniform(0.25, 0.5, 2)
    image, total = np.zeros((len(FWHM), SIZE, SIZE)), 0.0
    for own, fwhm in zip(image, FWHM, strict=True):
        psf = seeing(fwhm)
        star = psf.drawImage(nx=SIZE, ny=SIZE, scale=SCALE).array
        flux = snr / np.sqrt((star**2).sum())
        total += flux
        disks = [galsim.Convolve(galsim.Exponential(size), psf) for size in sizes]
        for profile, share, (x, y) in zip([psf, *disks], part, xy - (SIZE - 1) / 2, strict=True):
            drawn = profile.drawImage(nx=SIZE, ny=SIZE, scale=SCALE, offset=(x, y))
            own += flux * share * drawn.array
    return Sky(image + rng.normal(size=image.shape), total * part, xy)


def measure(deblender: JointDeblender, sky: Sky, broader: float) -> list[float]:
    """Return reduced χ², rows, the star's relative error, and the galaxies' mean one."""
    psf = np.stack(
        [seeing(broader * fwhm).drawImage(nx=41, ny=41, scale=SCALE).array for fwhm in FWHM]
    )
    image = sky.image[None]
    found = deblender(image, np.ones_like(image), psf=psf, pixel_scale=SCALE)
    n = int(found.n_sources[0])
    apart = np.linalg.norm(found.xy[0, :n, None] - sky.xy, axis=2)
    flux = found.extra["flux"][0, :n].sum(1)[apart.argmin(0)]
    error = np.where(apart.min(0) < MATCH, flux / sky.flux - 1, -1.0)
    chi2 = ((sky.image - found.models[0].sum(0)) ** 2).mean()
    return [chi2, n, error[0], np.minimum(np.abs(error[1:]), 1).mean()]


def rows(n: int, seed: int) -> Iterator[list[str]]:
    """Yield a row of the table for each signal to noise and PSF."""
    own = JointDeblender.load("cpu")
    stars = replace(own.config.stars, min_significance=np.inf)
    given = replace(own, config=replace(own.config, stars=stars))
    for snr, broader in product(SNRS, BROADER):
        skies = [draw(snr, seed + i) for i in range(n)]
        found = [
            np.array([measure(deblender, sky, broader) for sky in skies])
            for deblender in (given, own)
        ]
        chi2, count, _, galaxies = np.mean(found, axis=1).T
        star = np.median(found, axis=1)[:, 2]
        yield [
            str(snr),
            f"× {broader:g}",
            " / ".join(f"{value:.2f}" for value in chi2),
            " / ".join(f"{value:.1f}" for value in count),
            " / ".join(f"{100 * value:+.1f} %" for value in star),
            " / ".join(f"{100 * value:.0f} %" for value in galaxies),
        ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20, help="stars of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(circumstances(), flush=True)
    print(markdown(HEADER, list(rows(options.n, options.seed))))


if __name__ == "__main__":
    main()
