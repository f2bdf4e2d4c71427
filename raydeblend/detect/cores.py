"""Cores of saturated stars: what their masks hide, as the light about them and the PSF say.

A masked core, and the trail of charge that runs from it, leaves a hole in every image of the star,
with peaks on its rim and at the ends of the trail.  Where the star is, its own wings tell: at the
place from which the PSF fits them best, whatever the shape of the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.detect.peaks import find_peaks, refine_peaks
from raydeblend.tile import BoolArray, Box, FloatArray, Tile

Array = NDArray[np.float64]

_TOUCHING = np.ones((3, 3), dtype=bool)
_LEAST_SQUARES = 1e-12


@dataclass(frozen=True)
class CoreConfig:
    """How the cores of saturated stars are seen.

    Attributes
    ----------
    guard
        Pixels about saturated ones that are used only if they hold no more than the star's light:
        the last pixel of a trail holds what was left of the charge.
    excess, excess_sigma
        How much more it may be, as a fraction and in sigma.
    least
        Significance from which the light about a hole is that of a star.
    contrast
        Least height of a star over the saddle to a brighter one in the same hole, as a fraction.
    reach
        Pixels beyond a hole, of which the light about it is taken, at least.
    near
        Pixels (sigma) within which the light next to a hole says how bright the star is in it.
    trust
        Significance of that light by which it counts as much as that of the whole star.
    inward
        Part of the radius of a PSF stamp from which its light is followed to the rim, for its slope
        beyond.
    slopes
        Powers of the radius within which that slope must be: Kolmogorov's is -11/3.
    """

    guard: int = 1
    excess: float = 0.5
    excess_sigma: float = 5.0
    least: float = 50.0
    contrast: float = 0.2
    reach: int = 8
    near: float = 3.0
    trust: float = 3.0
    inward: float = 2 / 3
    slopes: tuple[float, float] = (-6.0, -2.0)


def with_cores(tile: Tile, config: CoreConfig) -> tuple[Tile, FloatArray]:
    """Return a tile without what was left of charge, and what the cores of its stars hide.

    Returns
    -------
    tile
        Its variance in the cores is that of the light there.
    cores
        ``(bands, y, x)`` light of the stars where the mask of saturation hides it, else 0.
    """
    cores = np.zeros_like(tile.image)
    saturated = tile.unusable & tile.saturated
    if not saturated.any():
        return tile, cores
    width = 2 * config.guard + 1
    holes = ndimage.maximum_filter(saturated, size=(1, width, width))
    unusable, variance = tile.unusable | holes, tile.variance.copy()
    guarded = replace(tile, unusable=unusable, variance=variance)
    guard = holes & ~tile.unusable
    labels, _ = ndimage.label(holes.any(axis=0), structure=_TOUCHING)
    for label, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        box = Box(rows.start, columns.start, rows.stop, columns.stop)
        _fill(guarded, (holes, guard), labels == label, box, cores, config)
    return guarded, cores


def _fill(
    tile: Tile,
    masks: tuple[BoolArray, BoolArray],
    hole: BoolArray,
    box: Box,
    cores: FloatArray,
    config: CoreConfig,
) -> None:
    """Put the light of the stars in one hole, and its variance, into `cores` and the tile.

    `masks` ``(bands, y, x)`` are the holes of all bands and their guards; of a guard, pixels that
    hold no more than that light are made usable again.
    """
    depth = int(np.ceil(ndimage.distance_transform_cdt(hole[box.slices]).max()))
    x, y = (box.x0 + box.x1) / 2 + tile.box.x0, (box.y0 + box.y1) / 2 + tile.box.y0
    psf = [_with_wings(stamp, 2 * depth + config.reach, config) for stamp in tile.psf.at(x, y)]
    half = max(max(stamp.shape) for stamp in psf) // 2
    window = box.grow(half).clip(Box(0, 0, *hole.shape)).slices
    bands = (slice(None), *window)
    usable = ~tile.unusable[bands]
    # Where a pixel is not usable its variance may be anything.
    weight = np.divide(1.0, tile.variance[bands], out=np.zeros(usable.shape), where=usable)
    image = np.where(usable, tile.image[bands], 0.0).astype(np.float64)
    stars = _stars(image, weight, psf, hole[window], config)
    if not len(stars):
        return
    for band, (seen, own) in enumerate(zip(image, weight, strict=True)):
        light = _fitted(seen, own, psf[band], stars, config)
        light *= _local_ratio(seen, own, light, config)
        inside, guard = (mask[band][window] & hole[window] for mask in masks)
        variance = tile.variance[band][window]
        most = (1 + config.excess) * light + config.excess_sigma * np.sqrt(variance)
        clean = guard & (tile.image[band][window] <= most)
        tile.unusable[band][window][clean] = False
        inside &= ~clean & (light > 0)
        cores[band][window][inside] = light[inside]
        variance[inside] = _variance_of(light, seen, variance, own > 0)[inside]


def _stars(
    image: Array, weight: Array, psf: Sequence[Array], hole: BoolArray, config: CoreConfig
) -> Array:
    """Return the positions ``(k, 2)`` (x, y) of the stars whose cores a hole ``(y, x)`` hides.

    They are the peaks of the significance of a point source, all bands together, each with a flux
    of its own; what a hole that holds no star lies in has its peak elsewhere.
    """
    # With half a second of imports, which few cells need.
    from scipy.signal import fftconvolve

    squared = np.zeros(hole.shape)
    for seen, own, stamp in zip(image, weight, psf, strict=True):
        light = fftconvolve(seen * own, stamp[::-1, ::-1], mode="same")
        norm = fftconvolve(own, stamp[::-1, ::-1] ** 2, mode="same")
        known = norm > _LEAST_SQUARES * max(float(norm.max()), 1e-300)
        squared += np.where(known, np.maximum(light, 0) ** 2 / np.where(known, norm, 1), 0)
    significance = np.sqrt(squared).astype(np.float32)
    peaks = find_peaks(significance, hole, config.least, config.contrast)
    peaks = peaks[significance[tuple(peaks.T)] >= config.least]
    return refine_peaks(significance, peaks)


def _fitted(image: Array, weight: Array, psf: Array, stars: Array, config: CoreConfig) -> Array:
    """Return the light ``(y, x)`` of stars at ``(k, 2)`` that fits the weighted pixels best."""
    shapes = np.stack([_drawn(image.shape, psf, star, config) for star in stars])
    root = np.sqrt(weight).ravel()
    flux, *_ = np.linalg.lstsq((shapes.reshape(len(stars), -1) * root).T, image.ravel() * root)
    return np.asarray(np.tensordot(np.maximum(flux, 0), shapes, axes=1))


def _local_ratio(image: Array, weight: Array, light: Array, config: CoreConfig) -> Array:
    """Return what the usable pixels near each one ``(y, x)`` have of the light that is expected."""
    near = partial(ndimage.gaussian_filter, sigma=config.near, mode="constant")
    area, prior = 4 * np.pi * config.near**2, config.trust**2
    seen, expected = area * near(image * light * weight), area * near(light**2 * weight)
    return np.asarray((np.maximum(seen, 0) + prior) / (expected + prior))


def _drawn(shape: tuple[int, ...], psf: Array, xy: Array, config: CoreConfig) -> Array:
    """Return a PSF with its wings at a position (x, y) on an image ``(y, x)``."""
    y, x = np.indices(shape)
    middle = np.array(psf.shape) // 2
    own = [y - xy[1] + middle[0], x - xy[0] + middle[1]]
    image = ndimage.map_coordinates(psf, own, order=3, mode="constant")
    wings = Wings.of(psf, config)
    radius = np.hypot(y - xy[1], x - xy[0])
    return np.where(radius > wings.edge - 1, wings(radius), image)


def _variance_of(light: Array, image: Array, variance: FloatArray, usable: BoolArray) -> Array:
    """Return the variance ``(y, x)`` of some light: sky, and photons as the usable pixels have."""
    sky = np.median(variance[usable]) if usable.any() else 0.0  # Without any, there is no light.
    bright, above = np.maximum(image[usable], 0), variance[usable] - sky
    slope = np.sum(above * bright) / max(float(np.sum(bright**2)), 1e-300)
    return np.asarray(sky + max(float(slope), 0.0) * np.maximum(light, 0))


def _with_wings(stamp: FloatArray, half: int, config: CoreConfig) -> Array:
    """Return a PSF stamp of at least `half` pixels from its middle to each side.

    Beyond the stamp its light falls as a power of the radius.
    """
    wings = Wings.of(stamp, config)
    pad = [(max(half - side // 2, 0),) * 2 for side in stamp.shape]
    wide = np.pad(stamp.astype(np.float64), pad)
    y, x = np.indices(wide.shape)
    radius = np.hypot(y - wide.shape[0] // 2, x - wide.shape[1] // 2)
    return np.where(radius > wings.edge, wings(radius), wide)


@dataclass(frozen=True)
class Wings:
    """How the light of a point falls beyond its PSF stamp: as a power of the radius.

    Attributes
    ----------
    edge
        The largest radius in pixels that the stamp holds in all directions.
    rim
        The light there.
    slope
        The power, as just inside of the rim (`CoreConfig.inward`, `CoreConfig.slopes`).
    """

    edge: int
    rim: float
    slope: float

    @classmethod
    def of(cls, stamp: NDArray[np.floating], config: CoreConfig) -> Wings:
        """Return the wings that continue a stamp of odd sides."""
        edge = min(stamp.shape) // 2
        y, x = np.indices(stamp.shape)
        radius = np.hypot(y - stamp.shape[0] // 2, x - stamp.shape[1] // 2)
        inner, rim = (
            max(float(np.median(stamp[abs(radius - middle) <= 1])), 0.0)
            for middle in (config.inward * edge, edge - 1)
        )
        if not 0 < rim < inner:
            return cls(edge, 0.0, 0.0)
        slope = np.log(rim / inner) / np.log((edge - 1) / (config.inward * edge))
        return cls(edge, rim, float(np.clip(slope, *config.slopes)))

    def __call__(self, radius: Array) -> Array:
        """Return the light at radii in pixels."""
        return np.asarray(self.rim * (np.maximum(radius, 1) / (self.edge - 1)) ** self.slope)
