"""Stamps for the fit: one source each, its neighbors' models taken out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raydeblend.fit.config import PROFILE_FIT
from raydeblend.tile import Blend

Array = NDArray[np.float64]

CONFIG = PROFILE_FIT.stamps


@dataclass(frozen=True)
class Stamps:
    """Sources cut out on a common size, centered to the pixel.

    Attributes
    ----------
    image
        ``(n, bands, s, s)`` in units of `unit`, s odd; 0 where the weight is 0.
    weight
        ``(n, bands, s, s)`` inverse variance in the same units; 0 where unusable, and all 0 for
        a band that cannot be measured.
    offset
        ``(n, 2)`` deblended position (x, y) from the middle pixel, within ±0.5.
    unit
        ``(n, bands)`` typical noise of a pixel in the unit of the input.
    """

    image: Array
    weight: Array
    offset: Array
    unit: Array

    @property
    def size(self) -> int:
        """Side of the stamps in pixels."""
        return int(self.image.shape[-1])

    def only(self, bands: NDArray[np.bool_]) -> Stamps:
        """Return the stamps with weight 0 in all but the chosen bands."""
        if bands.all():
            return self
        keep = bands[:, None, None]
        return replace(self, image=self.image * keep, weight=self.weight * keep)

    def take(self, index: slice | NDArray[np.intp]) -> Stamps:
        """Return the chosen stamps."""
        return Stamps(self.image[index], self.weight[index], self.offset[index], self.unit[index])


def stamp_size(blend: Blend) -> int:
    """Return the side of the fit's stamps for a blend."""
    side = max(blend.image.shape[1:])
    return next((size for size in CONFIG.sizes if size >= side), CONFIG.sizes[-1])


def weight_of(blend: Blend) -> Array:
    """Return the inverse variance ``(bands, y, x)`` of a blend, 0 where unusable."""
    usable = ~blend.unusable & np.isfinite(blend.variance) & (blend.variance > 0)
    return np.where(usable, 1 / np.where(usable, blend.variance, 1.0), 0.0)


def cut_stamps(blend: Blend, models: ArrayLike, xy: ArrayLike) -> Stamps:
    """Cut every source of a blend from the image minus the other sources' models.

    Parameters
    ----------
    models
        ``(k, bands, y, x)`` deblended models in the unit of the image.
    xy
        ``(k, 2)`` positions (x, y) in pixels of the blend's stamp.
    """
    models, xy = np.asarray(models, dtype=float), np.asarray(xy, dtype=float)
    weight = weight_of(blend)
    everything = blend.image - models.sum(0)
    size = stamp_size(blend)
    parts = [_cut(everything + m, weight, at, size) for m, at in zip(models, xy, strict=True)]
    return join(parts) if parts else _empty(len(weight), size)


def join(parts: list[Stamps]) -> Stamps:
    """Join stamps of one size."""
    return Stamps(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("image", "weight", "offset", "unit")
        )
    )


def _empty(bands: int, size: int) -> Stamps:
    images = np.zeros((0, bands, size, size))
    return Stamps(images, images, np.zeros((0, 2)), np.zeros((0, bands)))


def _cut(image: Array, weight: Array, xy: Array, size: int) -> Stamps:
    inside = np.all(np.isfinite(xy)) and np.all(np.abs(xy) < 1e6)
    middle = np.floor(xy + 0.5).astype(int) if inside else np.full(2, -size)
    image, weight = _window(image, middle, size), _window(weight, middle, size)
    weight = np.where(np.isfinite(image), weight, 0.0) * _measurable(image, weight)[:, None, None]
    image = np.where(weight > 0, image, 0.0)
    unit = _noise(weight)
    offset = xy - middle if inside else np.zeros(2)
    scale = unit[:, None, None]
    return Stamps((image / scale)[None], (weight * scale**2)[None], offset[None], unit[None])


def _window(array: Array, middle: NDArray[np.int_], size: int) -> Array:
    """Cut ``(bands, size, size)`` about pixel `middle` (x, y), zero beyond the array."""
    out = np.zeros((len(array), size, size))
    starts = middle[::-1] - size // 2
    low = np.maximum(starts, 0)
    high = np.minimum(starts + size, array.shape[1:])
    if np.all(high > low):
        source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        target = tuple(slice(a, b) for a, b in zip(low - starts, high - starts, strict=True))
        out[:, *target] = array[:, *source]
    return out


def _measurable(image: Array, weight: Array) -> NDArray[np.bool_]:
    """Tell which bands have enough usable pixels about the source; ``(bands,)``."""
    middle = image.shape[-1] // 2
    near = slice(middle - CONFIG.core, middle + CONFIG.core + 1)
    good = (weight[:, near, near] > 0) & np.isfinite(image[:, near, near])
    return np.asarray(good.sum((1, 2)) >= CONFIG.min_core_pixels)


def _noise(weight: Array) -> Array:
    """Return the noise ``(bands,)`` of the mean weight of the used pixels; 1 without any."""
    used = np.count_nonzero(weight > 0, axis=(1, 2))
    mean = weight.sum((1, 2)) / np.maximum(used, 1)
    return np.where(mean > 0, mean, 1.0) ** -0.5
