"""Patches in the format of LSST's DP2, written with astropy alone: see package lsst-images."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits

PLANES = ("INTERPOLATED", "DETECTED", "SATURATED", "NO_DATA", "INEXACT_PSF")
"""In the order of their bits, another one than in the patch of ../shared/data."""
SCHEMA = "https://images.lsst.io/schemas/cell_coadd-1.0.0"
STAMP = (15, 17)


@dataclass(frozen=True)
class Patch:
    """Where a patch's pixels and cells lie in its tract, y before x.

    The first cell begins before the image does, as where only a part of a patch was cut out.
    """

    shape: tuple[int, int] = (70, 100)
    start: tuple[int, int] = (1010, 2000)
    cell: tuple[int, int] = (30, 40)
    grid_start: tuple[int, int] = (940, 1920)
    cells_start: tuple[int, int] = (1000, 2000)
    cells: tuple[int, int] = (3, 3)
    nan: tuple[tuple[int, int], ...] = ((0, 1),)
    partly_nan: tuple[tuple[int, int], ...] = ()
    """Cells whose PSF is NaN."""
    missing: tuple[tuple[int, int], ...] = ((2, 2),)
    """Cells that the tree says are missing, as `cells` counts them; their PSF is 0."""
    planes: tuple[str, ...] = PLANES
    unit: str = "nJy"
    compressed: str | None = "RICE_1"
    changes: dict[str, object] = field(default_factory=dict)
    """Of the tree's `psf`."""

    def name(self, band: str) -> str:
        """What the butler calls its file."""
        return f"deep_coadd_77_5_{band}_lsst_cells_v2_LSSTCam_runs_DRP_DP2.fits"

    def stamp(self, i: int, j: int) -> np.ndarray:
        """Return the PSF of a cell: a Gaussian whose width tells the cell."""
        y, x = (np.arange(side) - side // 2 for side in STAMP)
        stamp = np.exp(-(y[:, None] ** 2 + x**2) / (2 * (1.5 + 0.1 * (3 * i + j)) ** 2))
        return stamp / stamp.sum()

    def psf(self) -> np.ndarray:
        """Return ``(cells y, cells x, py, px)``."""
        psf = np.zeros((*self.cells, *STAMP))
        for i, j in np.ndindex(self.cells):
            psf[i, j] = 0 if (i, j) in self.missing else self.stamp(i, j)
            psf[i, j] = np.nan if (i, j) in self.nan else psf[i, j]
            psf[i, j, :2] = np.nan if (i, j) in self.partly_nan else psf[i, j, :2]
        return psf

    def tree(self) -> dict[str, object]:
        """Return the JSON tree, as far as it is read."""
        first = [
            (c - g) // n
            for c, g, n in zip(self.cells_start, self.grid_start, self.cell, strict=True)
        ]
        end = [c + n * k for c, n, k in zip(self.cells_start, self.cell, self.cells, strict=True)]
        psf = {
            "min_read_version": 1,
            "bounds": {
                "grid": {"bbox": _box(self.grid_start, (5000, 5000)), "cell_shape": _yx(self.cell)},
                "bbox": _box(self.cells_start, end),
                "missing": [{"i": i + first[0], "j": j + first[1]} for i, j in self.missing],
            },
        }
        return {"image": {"yx0": list(self.start)}, "psf": {**psf, **self.changes}}

    def hdus(self, image: np.ndarray, mask: np.ndarray, variance: np.ndarray) -> fits.HDUList:
        """Return the file of one band; the noise realization is minus the image."""
        primary = fits.PrimaryHDU()
        primary.header["DATAMODL"] = SCHEMA
        cards = wcs_cards(self.start)
        named = {"IMAGE": image, "MASK": mask, "VARIANCE": variance, "NOISE_REALIZATIONS/0": -image}
        planes = [self._plane(data, cards, name) for name, data in named.items()]
        planes[0].header["BUNIT"] = self.unit
        planes[2].header["BUNIT"] = "nJy2" if self.unit == "nJy" else ""
        for n, plane in enumerate(self.planes):
            planes[1].header.update({f"MSKN{n:04d}": plane, f"MSKM{n:04d}": 1 << n})
        text = np.frombuffer(json.dumps(self.tree()).encode(), np.uint8)
        column = fits.Column("JSON", "PB()", array=np.array([text], dtype=np.object_))
        # Of images of the planes' fractions one is called as a plane of the tile is.
        fraction = fits.ImageHDU(variance, name="MASK_FRACTIONS/MASK")
        psf = fits.ImageHDU(self.psf(), name="PSF")
        tree = fits.BinTableHDU.from_columns([column], name="JSON")
        return fits.HDUList([primary, *planes, fraction, psf, tree])

    def _plane(self, data: np.ndarray, cards: fits.Header, name: str) -> fits.ImageHDU:
        if self.compressed is None:
            return fits.ImageHDU(data, cards, name=name)
        kind = "GZIP_2" if data.dtype.kind == "f" else self.compressed
        return fits.CompImageHDU(
            data, cards, name=name, compression_type=kind, tile_shape=self.cell, quantize_level=0
        )

    def write(
        self,
        folder: Path,
        band: str,
        image: np.ndarray,
        mask: np.ndarray | None = None,
        variance: np.ndarray | None = None,
    ) -> Path:
        """Write one band: by default nothing is masked, and the variance is 4."""
        mask = np.zeros(self.shape, np.int32) if mask is None else mask
        variance = np.full(self.shape, 4, np.float32) if variance is None else variance
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.name(band)
        self.hdus(image, mask, variance).writeto(path, overwrite=True)
        return path


def wcs_cards(start: tuple[int, int]) -> fits.Header:
    """Return cards that put pixel (x, y) = (2050, 1045) of the tract, 0-based, on (150, 2) deg."""
    header = fits.Header()
    header.update(CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=150.0, CRVAL2=2.0)
    header.update(CRPIX1=2051.0 - start[1], CRPIX2=1046.0 - start[0])
    header.update(CD1_1=-0.2 / 3600, CD2_2=0.2 / 3600)
    header.update(CTYPE1A="LINEAR", CTYPE2A="LINEAR", CRPIX1A=1.0, CRPIX2A=1.0)
    header.update(CRVAL1A=float(start[1]), CRVAL2A=float(start[0]))
    return header


def noise(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Return an empty sky of sigma 2."""
    return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


def _yx(pair: tuple[int, int]) -> dict[str, int]:
    return {"y": pair[0], "x": pair[1]}


def _box(start: tuple[int, int], stop: list[int] | tuple[int, int]) -> dict[str, dict[str, int]]:
    return {axis: {"start": a, "stop": b} for axis, a, b in zip("yx", start, stop, strict=True)}
