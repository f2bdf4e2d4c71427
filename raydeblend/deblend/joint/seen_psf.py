"""The PSF of a stamp as the joint fit sees it: mixtures, and where in the stamp each holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raydeblend.detect.footprints import gaussian_width
from raydeblend.errors import ConfigError, TileError
from raydeblend.fit.compiled.blend import Mixture, make_mixture
from raydeblend.fit.psf import POINT, PsfMixture, stack_places
from raydeblend.fit.psf_wings import fit_wings
from raydeblend.psf import TilePsf
from raydeblend.tile import BoolArray

Array = NDArray[np.float64]
Psf = ArrayLike | Sequence[TilePsf]
"""``(bands, py, px)``, ``(n, bands, py, px)``, or n by place in the pixels of each stamp."""


@dataclass(frozen=True)
class SeenPsf:
    """The PSF of one stamp.

    Attributes
    ----------
    mixtures
        Of each band one for each of its PSF stamps.
    known
        ``(bands,)``; false where they cannot be used, and points stand for them.
    width
        Standard deviation in pixels of a Gaussian as high as the mean PSF.
    places
        Which holds where, if a band has several.
    """

    mixtures: tuple[tuple[PsfMixture, ...], ...]
    known: BoolArray
    width: float
    places: TilePsf | None = None

    @classmethod
    def of(cls, stamps: Sequence[Sequence[Array]], places: TilePsf | None = None) -> SeenPsf:
        """Fit the PSF stamps of each band; those that were fitted before cost nothing."""
        found = [[_wings_or_none(stamp) for stamp in band] for band in stamps]
        known = np.array([None not in band for band in found])
        usable = [stamp for band, good in zip(stamps, known, strict=True) if good for stamp in band]
        return cls(
            tuple(tuple(mixture or POINT for mixture in band) for band in found),
            known,
            gaussian_width(usable) if usable else 1.0,
            places,
        )

    def mixture(self, pixel_scale: float) -> Mixture:
        """Return the Gaussians of galaxies and PSF for a pixel scale in arcsec."""
        return make_mixture(*self._stacked, pixel_scale)

    @cached_property
    def _stacked(self) -> tuple[Array, Array]:
        return stack_places(self.mixtures)


def psf_of_each(psf: Psf, shape: tuple[int, ...]) -> list[SeenPsf]:
    """Return the PSF of each stamp of images ``(n, bands, y, x)``; equal ones are fitted once.

    Raises
    ------
    ConfigError
        If there are not as many stamps or bands.
    """
    if isinstance(psf, (list, tuple)) and psf and isinstance(psf[0], TilePsf):
        return [_by_place(each) for each in psf]
    stamps = np.asarray(psf, dtype=np.float64)
    if stamps.ndim == 3:
        return [_constant(stamps, shape)] * shape[0]
    if stamps.ndim != 4 or len(stamps) != shape[0]:
        raise ConfigError(f"psf must be (bands, y, x) or (n, bands, y, x), not {stamps.shape}")
    known: dict[bytes, SeenPsf] = {}
    keys = [each.tobytes() for each in stamps]
    for key, each in zip(keys, stamps, strict=True):
        if key not in known:
            known[key] = _constant(each, shape)
    return [known[key] for key in keys]


def _by_place(psf: TilePsf) -> SeenPsf:
    stamps = [[np.asarray(stamp, dtype=np.float64) for stamp in band.stamps] for band in psf.bands]
    return SeenPsf.of(stamps, None if psf.is_constant else psf)


def _constant(psf: Array, shape: tuple[int, ...]) -> SeenPsf:
    if len(psf) != shape[1]:
        raise ConfigError(f"psf has {len(psf)} bands, the images have {shape[1]}")
    return SeenPsf.of([[stamp] for stamp in psf])


def _wings_or_none(stamp: ArrayLike) -> PsfMixture | None:
    try:
        return fit_wings(stamp)
    except TileError:
        return None
