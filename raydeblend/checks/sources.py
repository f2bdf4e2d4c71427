"""Bright isolated sources of a cell, each band by itself: where, how bright, how wide.

They are detected peaks, so that no deblender or profile stands between them and the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from raydeblend.checks.config import SourceConfig
from raydeblend.flags import Flag
from raydeblend.measure.point_sources import measure_points
from raydeblend.psf import TilePsf
from raydeblend.tile import Blend, Box

FloatArray = NDArray[np.float64]

SPOILED = Flag.EDGE | Flag.MASKED | Flag.SATURATED


@dataclass(frozen=True)
class BandByBand:
    """The n sources; NaN where a band does not show one.

    Attributes
    ----------
    xy
        ``(n, bands, 2)`` centroids (x, y) in tile pixels.
    flux, flux_err
        ``(n, bands)`` of the PSF there, in nJy.
    excess
        ``(n, bands)`` T before the PSF over T of the PSF, see `measure.point_sources`.
    psf_width
        ``(n, bands)`` standard deviation in pixels of a Gaussian as high as the PSF.
    """

    xy: FloatArray
    flux: FloatArray
    flux_err: FloatArray
    excess: FloatArray
    psf_width: FloatArray

    def take(self, rows: NDArray[np.bool_]) -> BandByBand:
        """Return the chosen sources."""
        return BandByBand(**{name: values[rows] for name, values in vars(self).items()})


def bright_sources(
    blends: Sequence[Blend], psf: TilePsf, inner: Box, config: SourceConfig
) -> BandByBand:
    """Measure the brightest footprints with one peak, in a region, that nothing spoils."""
    chosen = [blend for blend in blends if _is_alone(blend, inner)]
    chosen = sorted(chosen, key=_brightness, reverse=True)[: config.most]
    rows = [_measure(blend, psf, config) for blend in chosen]
    if not rows:
        n = len(psf.bands)
        empty = np.empty((0, n))
        return BandByBand(np.empty((0, n, 2)), empty, empty, empty, empty)
    measured = BandByBand(*(np.array(values) for values in zip(*rows, strict=True)))
    snr = np.nan_to_num(measured.flux / measured.flux_err)
    # A red star may be faint in blue bands, which then say nothing of it.
    faint = snr < config.faintest_snr
    shown = BandByBand(
        np.where(faint[:, :, None], np.nan, measured.xy),
        measured.flux,
        measured.flux_err,
        np.where(faint, np.nan, measured.excess),
        measured.psf_width,
    )
    return shown.take(np.asarray(np.median(snr, axis=1) >= config.least_snr))


def _is_alone(blend: Blend, inner: Box) -> bool:
    (x, y), *others = blend.on_tile(blend.xy)
    return not others and not blend.flags & SPOILED and inner.contains(y, x)


def _brightness(blend: Blend) -> float:
    return float(np.where(blend.unusable, 0, blend.image / np.sqrt(blend.variance)).max())


def _measure(blend: Blend, psf: TilePsf, config: SourceConfig) -> tuple[FloatArray, ...]:
    """Return the attributes of `BandByBand` for one source."""
    stamps = psf.at(*blend.on_tile(blend.xy)[0])
    n = len(stamps)
    xy, values = np.full((n, 2), np.nan), np.full((3, n), np.nan)
    for band, stamp in enumerate(stamps):
        own = slice(band, band + 1)
        view = replace(
            blend,
            image=blend.image[own],
            variance=blend.variance[own],
            unusable=blend.unusable[own],
        )
        if view.unusable.all():
            continue
        xy[band] = centroid(view, stamp, config)
        if np.isfinite(xy[band]).all():
            points = measure_points(
                view, np.zeros((1, *view.image.shape)), xy[band : band + 1], [stamp]
            )
            values[:, band] = points.flux[0, 0], points.flux_err[0, 0], points.excess[0]
    width = np.array([core_width(stamp) for stamp in stamps])
    return blend.on_tile(xy), *values, width


def centroid(view: Blend, stamp: NDArray[np.floating], config: SourceConfig) -> FloatArray:
    """Return the centroid (x, y) of a stamp of one band, weighted as a star would be; NaN if lost.

    With a Gaussian weight of the star's own width a step goes half of the way, and is doubled.
    """
    width = core_width(stamp)
    light = np.where(view.unusable[0], 0, view.image[0])
    y, x = np.indices(light.shape)
    at = start = view.xy[0].astype(np.float64)
    for _ in range(config.rounds):
        weight = light * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * width**2))
        total = weight.sum()
        if not total > 0:
            return np.full(2, np.nan)
        moved = np.array([(weight * (x - at[0])).sum(), (weight * (y - at[1])).sum()]) / total
        at = at + 2 * moved
        if np.abs(at - start).max() > config.reach * width:
            return np.full(2, np.nan)
    return np.asarray(at)


def core_width(stamp: NDArray[np.floating]) -> float:
    """Return the standard deviation in pixels of a Gaussian as high as a PSF."""
    return float(1 / np.sqrt(2 * np.pi * float(stamp.max() / stamp.sum())))
