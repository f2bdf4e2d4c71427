"""Blends with known truth, in the fixed layout of evaluation data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.arrays import read_npz
from raydeblend.errors import ConfigError
from raydeblend.tile import FloatArray


@dataclass(frozen=True)
class Blends:
    """Blends of equally many galaxies, in units of each band's sky sigma.

    Attributes
    ----------
    images
        ``(n, bands, y, x)`` with noise.
    isolated
        ``(n, k, bands, y, x)`` true images of the k galaxies, brightest first.
    xy
        ``(n, k, 2)`` true positions in pixels.
    """

    images: FloatArray
    isolated: FloatArray
    xy: FloatArray

    def __len__(self) -> int:
        return len(self.images)

    @property
    def n_galaxies(self) -> int:
        """Galaxies per blend."""
        return int(self.isolated.shape[1])

    def __getitem__(self, part: slice) -> Blends:
        return Blends(self.images[part], self.isolated[part], self.xy[part])


@dataclass(frozen=True)
class BlendSet:
    """A test set: blends by their number of galaxies, and what holds for all of them.

    Attributes
    ----------
    psf
        ``(bands, py, px)``.
    pixel_scale
        Arcsec per pixel.
    """

    blends: tuple[Blends, ...]
    psf: FloatArray
    bands: tuple[str, ...]
    pixel_scale: float

    def first(self, n: int) -> BlendSet:
        """Return the set with at most `n` blends of each number of galaxies."""
        return replace(self, blends=tuple(blends[:n] for blends in self.blends))


def read_blends(path: str) -> BlendSet:
    """Read a test set from an npz file, local or on s3.

    Raises
    ------
    ConfigError
        If the file is missing or has another layout.
    """
    try:
        return to_blend_set(read_npz(path))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def to_blend_set(arrays: Mapping[str, NDArray[np.generic]]) -> BlendSet:
    """Check the arrays of the fixed layout: ``blend2``, ``isolated2``, ``xy2``, the same with 3.

    Raises
    ------
    ConfigError
        If an array is missing or the shapes do not agree.
    """
    present = [k for k in (2, 3) if f"blend{k}" in arrays]
    if not present:
        raise ConfigError("there is neither an array blend2 nor blend3 of (n, bands, y, x)")
    blends = tuple(_blends(arrays, k) for k in present)
    bands = tuple(str(band) for band in np.atleast_1d(_get(arrays, "bands")).astype(str))
    psf = _floats(arrays, "psf")
    for part in blends:
        if part.images.shape[1] != len(bands) or psf.shape[:-2] != (len(bands),):
            raise ConfigError(f"blends and psf must have the {len(bands)} bands of 'bands'")
    return BlendSet(blends, psf, bands, float(_floats(arrays, "pixel_scale").item()))


def _blends(arrays: Mapping[str, NDArray[np.generic]], k: int) -> Blends:
    images = _floats(arrays, f"blend{k}")
    isolated = _floats(arrays, f"isolated{k}")
    xy = _floats(arrays, f"xy{k}")
    if images.ndim != 4 or len(images) == 0:
        raise ConfigError(f"blend{k} must have shape (n, bands, y, x), not {images.shape}")
    n = len(images)
    if isolated.shape != (n, k, *images.shape[1:]) or xy.shape != (n, k, 2):
        raise ConfigError(
            f"isolated{k} and xy{k} have shapes {isolated.shape} and {xy.shape}, expected "
            f"{(n, k, *images.shape[1:])} and {(n, k, 2)}"
        )
    return Blends(images, isolated, xy)


def _floats(arrays: Mapping[str, NDArray[np.generic]], name: str) -> FloatArray:
    # Upcast before anything is summed: the files hold float16.
    return _get(arrays, name).astype(np.float32)


def _get(arrays: Mapping[str, NDArray[np.generic]], name: str) -> NDArray[np.generic]:
    if name not in arrays:
        raise ConfigError(f"the array {name!r} is missing")
    return arrays[name]
