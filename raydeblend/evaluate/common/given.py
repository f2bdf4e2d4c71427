"""Deblenders that must be given positions: peers that the protocols compare."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raydeblend.deblend.sources import Sources, stack_sources
from raydeblend.errors import ConfigError
from raydeblend.tile import Deblended, FloatArray


class GivenBlend(NamedTuple):
    """One blend: image, variance and weight ``(bands, y, x)``, PSF, and positions ``(k, 2)``.

    The weight is the inverse variance, 0 where masked; the PSF is ``(bands, py, px)``.
    """

    image: FloatArray
    variance: FloatArray
    weight: FloatArray
    psf: FloatArray
    xy: NDArray[np.float64]


class GivenDeblender(ABC):
    """A deblender of one blend at a time, which must be given positions, variance and PSF."""

    name: str

    def __call__(
        self,
        images: ArrayLike,
        variance: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        psf: ArrayLike | None = None,
        bands: tuple[str, ...] | None = None,
        pixel_scale: float | None = None,
        xy: Sequence[ArrayLike] | None = None,
    ) -> Deblended:
        """Deblend a batch; see `raydeblend.tile.Deblender`.

        Raises
        ------
        ConfigError
            If positions, variance or PSF are missing.
        """
        blends = given_blends(self.name, images, variance, mask, psf, xy)
        found = [self.separate(blend, bands, pixel_scale) for blend in blends]
        return stack_sources(found, np.shape(images))

    @abstractmethod
    def separate(
        self, blend: GivenBlend, bands: Sequence[str] | None, pixel_scale: float | None
    ) -> Sources:
        """Return the sources of one blend, brightest first."""


def given_blends(
    name: str,
    images: ArrayLike,
    variance: ArrayLike | None,
    mask: ArrayLike | None,
    psf: ArrayLike | None,
    xy: Sequence[ArrayLike] | None,
) -> Iterator[GivenBlend]:
    """Return the blends of a batch, as `raydeblend.tile.Deblender` takes it.

    Raises
    ------
    ConfigError
        If positions, variance or PSF are missing; `name` is that of the deblender.
    """
    if xy is None or variance is None or psf is None:
        raise ConfigError(f"{name} must be given positions, variance and PSF")
    batch, noise = np.asarray(images, np.float32), np.asarray(variance, np.float32)
    weight = 1 / noise
    if mask is not None:
        weight = np.where(np.asarray(mask)[:, None], np.float32(0), weight)
    stamps = np.asarray(psf, np.float32)
    stamps = np.broadcast_to(stamps, (len(batch), *stamps.shape[-3:]))
    places = [np.asarray(each, np.float64).reshape(-1, 2) for each in xy]
    columns = zip(batch, noise, weight, stamps, places, strict=True)
    return (GivenBlend(*each) for each in columns)
