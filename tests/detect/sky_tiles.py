"""Tiles made in memory: a Gaussian PSF, known sources, known noise."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from raydeblend.psf import constant
from raydeblend.tile import Box, Tile, TileHeader

PSF_SIGMA = 1.8
SIGMA = np.array([3.0, 4.0, 5.0])


def gaussian_psf() -> NDArray[np.float32]:
    y, x = np.indices((31, 31)) - 15
    stamp = np.exp(-0.5 * (x**2 + y**2) / PSF_SIGMA**2)
    return (stamp / stamp.sum()).astype(np.float32)


def make_tile(image: NDArray[np.floating], name: str = "t", sigma: NDArray = SIGMA) -> Tile:
    bands, *shape = image.shape
    header = TileHeader(name, ("g", "r", "i")[:bands], (None,) * bands, tuple(shape), "", 0.168)
    return Tile(
        header=header,
        box=Box(0, 0, *shape),
        image=image.astype(np.float32),
        variance=np.broadcast_to(sigma[:bands, None, None] ** 2, image.shape).astype(np.float32),
        unusable=np.zeros(image.shape, dtype=bool),
        saturated=np.zeros(tuple(shape), dtype=bool),
        psf=constant([gaussian_psf()] * bands),
    )


def noise(shape: tuple[int, int], seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, SIGMA[:, None, None], (3, *shape))


def add_stars(
    image: NDArray[np.floating], xy: NDArray[np.floating], flux: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Add point sources of the same flux in every band."""
    y, x = np.indices(image.shape[1:])
    for (x0, y0), f in zip(xy, flux, strict=True):
        star = np.exp(-0.5 * ((x - x0) ** 2 + (y - y0) ** 2) / PSF_SIGMA**2)
        image = image + f * star / (2 * np.pi * PSF_SIGMA**2)
    return image


def point_source_error() -> float:
    """Of the flux of a point source, all bands together: (4π)^½ σ_psf / (Σ 1/σ²)^½."""
    return float(np.sqrt(4 * np.pi) * PSF_SIGMA / np.sqrt((SIGMA**-2.0).sum()))


def cut(tile: Tile, box: Box) -> Tile:
    """Return the part of a tile that a cell would have read."""
    return replace(
        tile,
        box=box,
        image=tile.image[:, *box.slices],
        variance=tile.variance[:, *box.slices],
        unusable=tile.unusable[:, *box.slices],
        saturated=tile.saturated[box.slices],
    )
