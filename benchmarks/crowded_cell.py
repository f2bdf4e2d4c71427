"""One cell with thousands of sources: ``python -m benchmarks.crowded_cell [--deblender sep]``.

Gaussian galaxies at random places, so dense that footprints grow together, as one cell through
`run_catalog`: what became of them, seconds of each stage, peak memory, and how many sources carry
each flag.  12,000 of them on 1024 x 1024 pixels are 5,000 detected peaks, of which 3,400 are in
one footprint.
"""

from __future__ import annotations

import argparse
import tempfile

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from benchmarks.circumstances import circumstances
from raydeblend.config import CatalogConfig
from raydeblend.evaluate.tables import markdown
from raydeblend.fits import write_band
from raydeblend.pipeline.entries import read_entries
from raydeblend.pipeline.survey import run_catalog

BANDS, COLOURS = ("g", "r", "i"), (0.6, 0.8, 1.0)
CARDS = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0,
         "CDELT1": -0.168 / 3600, "CDELT2": 0.168 / 3600, "CRPIX1": 1.0, "CRPIX2": 1.0}  # fmt: skip
PSF_SIGMA, NOISE, REACH = 1.8, 1.0, 12


def main() -> None:
    """Make the tile, its catalog, and print the ledger's entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=12_000, help="galaxies drawn")
    parser.add_argument("--size", type=int, default=1024, help="side of the cell in pixels")
    parser.add_argument("--deblender", default="sep")
    options = parser.parse_args()
    print(circumstances(), flush=True)
    config = CatalogConfig(BANDS, deblender=options.deblender, cell_size=options.size)
    with tempfile.TemporaryDirectory() as folder:
        write_tile(f"{folder}/tiles", crowd(options.sources, options.size))
        run_catalog(f"{folder}/tiles", f"{folder}/out", config, progress=False)
        (entry,) = read_entries(f"{folder}/out")
    rows = [
        ["ended", f"{entry.status} {entry.reason}".strip()],
        [
            "sources",
            f"{entry.sources} in {entry.parents} footprints, {entry.blends} of them blends",
        ],
        ["seconds", ", ".join(f"{name} {s:.1f}" for name, s in entry.seconds.items())],
        ["peak memory", f"{entry.peak_memory_mb:.0f} MiB"],
        ["flags", ", ".join(f"{name} {n}" for name, n in sorted(entry.flags.items()))],
    ]
    print(markdown([f"{options.deblender}, {options.sources} drawn", ""], rows))


def crowd(n: int, size: int, seed: int = 4) -> NDArray[np.float64]:
    """Return ``(size, size)`` light of `n` galaxies of 200 to 3,000 counts, noise being 1."""
    rng = np.random.default_rng(seed)
    xy, flux = rng.uniform(8, size - 8, (n, 2)), 10 ** rng.uniform(2.3, 3.5, n)
    light = np.zeros((size, size))
    for (x, y), f, sigma in zip(xy, flux, rng.uniform(1.9, 2.6, n), strict=True):
        rows, columns = (np.arange(max(int(p) - REACH, 0), min(int(p) + REACH, size))
                         for p in (y, x))  # fmt: skip
        blob = np.outer(_profile(rows - y, sigma), _profile(columns - x, sigma))
        light[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += f * blob
    return light


def _profile(offset: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    return np.exp(-(offset**2) / (2 * sigma**2)) / (np.sqrt(2 * np.pi) * sigma)


def write_tile(folder: str, light: NDArray[np.float64]) -> None:
    """Write the light as a tile ``crowd`` of three bands with noise and a Gaussian PSF."""
    rng, around = np.random.default_rng(2), np.arange(-15.0, 16)
    psf = np.outer(_profile(around, PSF_SIGMA), _profile(around, PSF_SIGMA))
    for band, colour in zip(BANDS, COLOURS, strict=True):
        image = (colour * light + rng.normal(0, NOISE, light.shape)).astype(np.float32)
        variance = np.full(light.shape, NOISE**2, np.float32)
        write_band(
            f"{folder}/crowd_{band}.fits", image, np.zeros(light.shape, np.int32), variance,
            fits.Header(CARDS), psf / psf.sum(), 10 ** (0.4 * 27), {"BAD": 0},
        )  # fmt: skip


if __name__ == "__main__":
    main()
