"""The sources of a stamp among a network's models, and those of all stamps as one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from raydeblend.tile import Deblended, FloatArray

Sources = tuple[FloatArray, FloatArray]
"""Models ``(k, bands, y, x)``, brightest first, and positions ``(k, 2)`` of one stamp."""

MERGE_RADIUS = 2.0
"""Pixels, half of a usual seeing: nearer models are of one galaxy, whose peel left a residual."""
MIN_SIGNIFICANCE = 3.0
"""A model is a source if a matched filter would detect it at this signal-to-noise ratio."""


def sources_of(models: FloatArray, weight: FloatArray) -> Sources:
    """Return the significant models of one stamp, brightest first, and their positions.

    `models` is ``(k, bands, y, x)`` and `weight` ``(bands, y, x)`` their inverse variance, both
    in noise units.  One that lies on a brighter one, a second helping of it, is added to it.
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
    return order[significances(models, weight)[order] > MIN_SIGNIFICANCE]


def significances(models: FloatArray, weight: FloatArray) -> FloatArray:
    """Return the signal-to-noise ratio ``(k,)`` of a matched filter for each model."""
    return np.asarray(np.sqrt((models**2 * weight).sum(axis=(1, 2, 3))))


def positions_of(models: FloatArray, radius: int = 3) -> FloatArray:
    """Return the positions ``(k, 2)`` (x, y) of models ``(k, bands, y, x)``; NaN of empty ones.

    The centroid of the pixels around the brightest one that exceed half of it, all bands together.
    """
    xy = [_core(image, radius) for image in models.sum(axis=1)]
    return np.array(xy, dtype=np.float32).reshape(-1, 2)


def galaxies_of(xy: FloatArray) -> NDArray[np.intp]:
    """Return for each model ``(k,)`` the first one of its galaxy, itself if that is the first."""
    first: list[int] = []
    for k, position in enumerate(xy):
        near = [j for j in range(k) if first[j] == j and _distance(xy[j], position) < MERGE_RADIUS]
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


def stack_sources(
    sources: Sequence[Sources],
    quality: Sequence[str],
    shape: tuple[int, ...],
    extra: Mapping[str, NDArray[np.generic]] | None = None,
) -> Deblended:
    """Pad the sources of stamps of `shape` ``(n, bands, y, x)`` to the most in any of them."""
    n_sources = np.array([len(models) for models, _ in sources], dtype=np.int64)
    most = max(1, int(n_sources.max(initial=0)))
    models = np.zeros((shape[0], most, *shape[1:]), dtype=np.float32)
    xy = np.full((shape[0], most, 2), np.nan, dtype=np.float32)
    for row, (own_models, own_xy) in enumerate(sources):
        models[row, : len(own_models)] = own_models
        xy[row, : len(own_xy)] = own_xy
    return Deblended(models, n_sources, xy, np.array(quality, dtype="<U6"), dict(extra or {}))
