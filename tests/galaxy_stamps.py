"""GalSim stamps of known truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import galsim
import numpy as np
from numpy.typing import ArrayLike, NDArray

from raydeblend.fit.result import Measurements
from raydeblend.measure.measure import measure_blends
from raydeblend.tile import Blend, Box

SCALE = 0.168
BANDS = ("g", "r", "i")
FLUX = np.array([6000.0, 10000.0, 15000.0])


@dataclass(frozen=True)
class Truth:
    """Single galaxies in noise: `blends` as they would be detected, with their true positions."""

    blends: list[Blend]
    models: list[NDArray[np.float64]]
    xy: list[NDArray[np.float64]]
    flux: NDArray[np.float64]
    psf: tuple[NDArray[np.float32], ...]


def make_blend(image: NDArray[np.floating], sigma: float, xy: NDArray[np.float64]) -> Blend:
    shape = image.shape
    return Blend(
        parent_id=1,
        box=Box(0, 0, *shape[1:]),
        image=image.astype(np.float32),
        variance=np.full(shape, sigma**2, dtype=np.float32),
        unusable=np.zeros(shape, dtype=bool),
        footprint=np.ones(shape[1:], dtype=bool),
        xy=xy.astype(np.float32),
    )


def measure_blend(
    blend: Blend, models: ArrayLike, xy: ArrayLike, *rest: Any, **options: Any
) -> Measurements:
    """Measure the sources of one blend; the arguments are those of `measure_blends`."""
    return measure_blends([blend], [models], [xy], *rest, **options)[0]


def draw_models(
    profiles: Sequence[galsim.GSObject],
    psf: Sequence[NDArray[np.floating]],
    xy: NDArray[np.float64],
    flux: NDArray[np.float64],
    size: int,
) -> NDArray[np.float64]:
    """Draw galaxies ``(k, bands, size, size)``, one PSF stamp a band, of fluxes ``(k, bands)``."""
    return np.stack(
        [
            np.stack([f * draw(p, stamp, at, size) for f, stamp in zip(fluxes, psf, strict=True)])
            for p, at, fluxes in zip(profiles, xy, flux, strict=True)
        ]
    )


def draw(
    profile: galsim.GSObject, psf: NDArray[np.floating], xy: NDArray[np.float64], size: int
) -> NDArray[np.float64]:
    """Draw a profile convolved with a PSF stamp (which holds the pixel already)."""
    seeing = galsim.InterpolatedImage(galsim.Image(psf.astype(float), scale=SCALE), flux=1.0)
    offset = xy - (size - 1) / 2
    image = galsim.Convolve(profile, seeing).drawImage(
        nx=size, ny=size, scale=SCALE, offset=tuple(offset), method="no_pixel"
    )
    return np.asarray(image.array, dtype=float)
