"""The sources of a stamp, found among a network's models, and those of all stamps as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydeblend.tile import Deblended, FloatArray

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class SourceConfig:
    """Which models of a network are sources, and where these are.

    Attributes
    ----------
    merge_radius
        Pixels, half of a usual seeing: nearer models are of one galaxy, whose peel left a residual.
    min_significance
        Signal-to-noise ratio at which a matched filter must detect a model.
    core_radius
        Pixels around the brightest one in which a model is centered.
    """

    merge_radius: float = 2.0
    min_significance: float = 3.0
    core_radius: int = 3


SOURCES = SourceConfig()


@dataclass(frozen=True)
class Sources:
    """What a deblender found in one stamp, k sources, the brightest first.

    Attributes
    ----------
    models
        ``(k, bands, y, x)``.
    xy
        ``(k, 2)`` positions (x, y).
    quality
        ``high``, ``medium``, ``low``, or ``none`` where there is no source.
    measured
        By name, ``(k, ...)`` measurements of the sources.
    images
        By name, ``(k, bands, y, x)`` images of the sources beside their models.
    of_stamp
        By name, one value of the whole stamp.
    beside
        By name, ``(m, ...)`` of what there may be any number of in a stamp.
    """

    models: FloatArray
    xy: FloatArray
    quality: str
    measured: Mapping[str, Floats] = field(default_factory=dict)
    images: Mapping[str, FloatArray] = field(default_factory=dict)
    of_stamp: Mapping[str, np.generic] = field(default_factory=dict)
    beside: Mapping[str, Floats] = field(default_factory=dict)

    @classmethod
    def unrated(cls, models: FloatArray, xy: FloatArray) -> Sources:
        """Return sources of a method that does not rate its deblends: ``medium`` if there are any.

        `models` and `xy` are those of the class.
        """
        return cls(models, xy, "medium" if len(models) else "none")


def select_sources(models: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the significant models of one stamp, brightest first, and their positions.

    `models` is ``(k, bands, y, x)`` and `weight` ``(bands, y, x)`` their inverse variance, both
    in noise units.  One that lies on a brighter one, a repeat of it, is added to it.
    """
    ordered = models[brightest_first(models, weight)]
    xy = positions_of(ordered)
    galaxy = galaxies_of(xy)
    merged = np.zeros_like(ordered)
    np.add.at(merged, galaxy, ordered)
    kept = galaxy == np.arange(len(xy))
    return merged[kept], xy[kept]


def brightest_first(models: FloatArray, weight: FloatArray) -> NDArray[np.intp]:
    """Return which models ``(k, bands, y, x)`` are significant, brightest first."""
    order = np.argsort(-models.sum(axis=(1, 2, 3)), kind="stable")
    return order[significances(models, weight)[order] > SOURCES.min_significance]


def significances(models: FloatArray, weight: FloatArray) -> FloatArray:
    """Return the signal-to-noise ratio ``(k,)`` of a matched filter for each model."""
    return np.asarray(np.sqrt((models**2 * weight).sum(axis=(1, 2, 3))))


def positions_of(models: FloatArray) -> FloatArray:
    """Return the positions ``(k, 2)`` (x, y) of models ``(k, bands, y, x)``; NaN of empty ones.

    The centroid of the pixels around the brightest one that exceed half of it, all bands together.
    """
    xy = [_core(image, SOURCES.core_radius) for image in models.sum(axis=1)]
    return np.array(xy, dtype=np.float32).reshape(-1, 2)


def galaxies_of(xy: FloatArray) -> NDArray[np.intp]:
    """Return for each model ``(k,)`` the first one of its galaxy, itself if that is the first."""
    first: list[int] = []
    for k, position in enumerate(xy):
        near = [
            j
            for j in range(k)
            if first[j] == j and _distance(xy[j], position) < SOURCES.merge_radius
        ]
        first.append(near[0] if near else k)
    return np.array(first, dtype=np.intp)


def _core(image: FloatArray, radius: int) -> tuple[float, float]:
    y0, x0 = np.unravel_index(int(image.argmax()), image.shape)
    if image[y0, x0] <= 0:
        return np.nan, np.nan
    top, left = max(y0 - radius, 0), max(x0 - radius, 0)
    window = image[top : y0 + radius + 1, left : x0 + radius + 1]
    core = np.where(window > 0.5 * window.max(), window, 0)
    y, x = np.indices(core.shape)
    return float((core * x).sum() / core.sum() + left), float((core * y).sum() / core.sum() + top)


def _distance(one: FloatArray, other: FloatArray) -> float:
    return float(np.hypot(*(one - other)))


def stack_sources(found: Sequence[Sources], shape: tuple[int, ...]) -> Deblended:
    """Put the sources of stamps of `shape` ``(n, bands, y, x)`` into arrays, as callers get them.

    They are padded to the most sources of any stamp: images with 0, positions and measurements
    with NaN.
    """
    n_sources = np.array([len(own.models) for own in found], dtype=np.int64)
    most = max(1, int(n_sources.max(initial=0)))
    models = _padded([own.models for own in found], (most, *shape[1:]), 0)
    xy = _padded([own.xy for own in found], (most, 2), np.nan)
    quality = np.array([own.quality for own in found], dtype="<U6")
    return Deblended(models, n_sources, xy, quality, _extra(found, most))


def _extra(found: Sequence[Sources], most: int) -> dict[str, NDArray[np.generic]]:
    """Return by name what else is known of all stamps; empty without a stamp."""
    extra: dict[str, NDArray[np.generic]] = {}
    if not found:
        return extra
    first = found[0]
    for name, values in first.measured.items():
        rows = [own.measured[name] for own in found]
        extra[name] = _padded(rows, (most, *values.shape[1:]), np.nan, values.dtype)
    for name, values in first.images.items():
        extra[name] = _padded([own.images[name] for own in found], (most, *values.shape[1:]), 0)
    for name, values in first.beside.items():
        rows = [own.beside[name] for own in found]
        extra[name] = _padded(rows, (max(map(len, rows)), *values.shape[1:]), np.nan)
    for name in first.of_stamp:
        extra[name] = np.array([own.of_stamp[name] for own in found])
    return extra


def _padded(
    arrays: Sequence[Floats],
    shape: tuple[int, ...],
    empty: float,
    dtype: np.dtype[np.floating] | type[np.float32] = np.float32,
) -> NDArray[Any]:
    """Return ``(n, *shape)`` with arrays that have fewer rows than that, and `empty` below."""
    # Zeros take no memory until they are written.
    stacked = np.zeros((len(arrays), *shape), dtype=dtype)
    if empty != 0:
        stacked[:] = empty
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked
