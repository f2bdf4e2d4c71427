"""What no fit may publish: values that its own errors, its footprint or the sky contradict."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from raydeblend.fit.result import ARRAYS, Measurements
from raydeblend.flags import Flag
from raydeblend.tile import Blend, BoolArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PlausibleConfig:
    """Where a result stops being one.

    Attributes
    ----------
    lowest_significance
        Errors below 0 at which a flux cannot be noise: so low it would be once in 3 million.
    size_margin
        Pixels beyond the farthest pixel of the footprint that half the light may reach, along the
        longer axis: a faint galaxy shows only its core.
    size_factor
        And times the distance of that pixel.
    position_margin
        Pixels about the footprint in which a source of it may lie.
    faint_snr, faint_r50
        Signal to noise below which a source does not show that half its light lies within more
        than so many arcsec: such fits are of noise, or of a neighbor's wings.
    """

    lowest_significance: float = -5.0
    size_margin: float = 6.0
    size_factor: float = 1.5
    position_margin: int = 1
    faint_snr: float = 5.0
    faint_r50: float = 1.5


PLAUSIBLE = PlausibleConfig()
FAR = 1e6
"""Pixels beyond which a position is none."""


def only_plausible(
    measured: Measurements,
    blend: Blend,
    xy: ArrayLike,
    pixel_scale: float,
    config: PlausibleConfig = PLAUSIBLE,
) -> Measurements:
    """Return the measurements with absurd sources nulled and flagged FIT_FAILED.

    `snr` becomes what the fluxes and their errors say: √ Σ (flux / error)² over the bands.

    Parameters
    ----------
    xy
        ``(k, 2)`` positions (x, y) in stamp pixels that the fit was given.
    """
    absurd = is_absurd(measured, blend, xy, pixel_scale, config)
    values = {name: getattr(measured, name).copy() for name in ARRAYS if name != "flags"}
    values["snr"] = signal_to_noise(measured)
    for array in values.values():
        array[absurd] = np.nan
    failed = np.where(absurd, int(Flag.FIT_FAILED), 0).astype(np.int32)
    # A fit that failed did not stop early.
    kept = np.where(absurd, ~int(Flag.FIT_NOT_CONVERGED), -1).astype(np.int32)
    return replace(measured, **values, flags=(measured.flags & kept) | failed)


def signal_to_noise(measured: Measurements) -> Array:
    """Return fluxes over their errors ``(k,)``, bands in quadrature; NaN without any."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = measured.flux / measured.flux_err
    known = np.isfinite(ratio)
    total = np.sqrt((np.where(known, ratio, 0.0) ** 2).sum(1))
    return np.where(known.any(1), total, np.nan)


def is_absurd(
    measured: Measurements,
    blend: Blend,
    xy: ArrayLike,
    pixel_scale: float,
    config: PlausibleConfig = PLAUSIBLE,
) -> BoolArray:
    """Tell which sources ``(k,)`` cannot be right; NaN is not absurd, but not measured."""
    given = np.asarray(xy, dtype=float).reshape(-1, 2)
    place = given + np.nan_to_num(measured.shift)
    checks = (
        _negative(measured, config),
        _inconsistent(measured),
        _too_large(measured, blend, place, pixel_scale, config),
        _unseen(measured, blend, pixel_scale, config),
        ~_near_footprint(blend, place, config.position_margin),
    )
    fitted = np.isfinite(measured.flux).any(1)
    return np.asarray(fitted & np.any(checks, axis=0), dtype=bool)


def _negative(measured: Measurements, config: PlausibleConfig) -> BoolArray:
    with np.errstate(invalid="ignore"):
        low = measured.flux < config.lowest_significance * measured.flux_err
    return np.asarray(low.any(1), dtype=bool)


def _inconsistent(measured: Measurements) -> BoolArray:
    """Tell where a flux has no error or one of 0, and where shape or size are none."""
    told = np.isfinite(measured.flux)
    with np.errstate(invalid="ignore"):
        bare = told & ~((measured.flux_err > 0) & np.isfinite(measured.flux_err))
        round_enough = measured.g1**2 + measured.g2**2 < 1
    known = np.isfinite(measured.g1)
    return np.asarray(bare.any(1) | (known & ~round_enough), dtype=bool)


def _too_large(
    measured: Measurements,
    blend: Blend,
    place: Array,
    pixel_scale: float,
    config: PlausibleConfig,
) -> BoolArray:
    """Tell where half the light would lie beyond the footprint, along the longer axis."""
    y, x = np.nonzero(blend.footprint)
    if not len(x):
        return np.ones(len(place), dtype=bool)
    corners = np.array([(a, b) for a in (x.min(), x.max()) for b in (y.min(), y.max())])
    reach = np.linalg.norm(corners[None] - place[:, None], axis=2).max(1)
    modulus = np.hypot(measured.g1, measured.g2)
    with np.errstate(invalid="ignore", divide="ignore"):
        longer = measured.r50 / pixel_scale * np.sqrt((1 + modulus) / (1 - modulus))
        return np.asarray(longer > config.size_factor * reach + config.size_margin, dtype=bool)


def _unseen(
    measured: Measurements, blend: Blend, pixel_scale: float, config: PlausibleConfig
) -> BoolArray:
    """Tell which sources are too faint to be seen as wide as they were fitted.

    A source alone in a footprint so wide is seen; its profile is what makes its errors large.
    """
    with np.errstate(invalid="ignore"):
        faint = signal_to_noise(measured) < config.faint_snr
        wide = measured.r50 > config.faint_r50
    seen_radius = np.sqrt(blend.footprint.sum() / np.pi) * pixel_scale
    is_seen = len(wide) == 1 and seen_radius > config.faint_r50
    return np.asarray(faint & wide & (not is_seen), dtype=bool)


def _near_footprint(blend: Blend, place: Array, margin: int) -> BoolArray:
    """Tell which places lie in a pixel of the footprint, or so many pixels from one.

    In a pixel beside it only if any band sees that: of what lies where there are no data, a flank
    is all that is seen.  The footprint of a saturated star has its core, which no band sees.
    """
    good = np.asarray((np.abs(np.where(np.isfinite(place), place, 2 * FAR)) < FAR).all(1))
    columns, rows = np.floor(np.where(good[:, None], place, 0.0) + 0.5).astype(int).T
    height, width = blend.footprint.shape
    inside = good & (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    at = np.where(inside, rows, 0), np.where(inside, columns, 0)
    seen = ~blend.unusable[:, *at].all(0)
    # Most sources lie in a pixel that a band sees.
    if not seen.all():
        seen |= ndimage.binary_fill_holes(blend.footprint)[at]
    near = [
        blend.footprint[_about(y, margin), _about(x, margin)].any()
        for y, x in zip(*at, strict=True)
    ]
    return np.asarray(inside & np.array(near, dtype=bool) & seen)


def _about(pixel: int, margin: int) -> slice:
    return slice(max(pixel - margin, 0), pixel + margin + 1)
