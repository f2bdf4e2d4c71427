"""The PSF-aware peak finder: sources closer than the eye separates, with a significance each.

What makes a source on the flank of another visible is its curvature, not its height.  The image
is filtered with the negative Laplacian of a Gaussian as wide as the PSF (times `smoothing`):
the curvature of the smoothed image, in units of its own noise (Marr & Hildreth 1980; Lindeberg
1998 for the scale).  For a Gaussian PSF of standard deviation s, two equal sources make two
maxima of it when further apart than 1.58 √(1 + smoothing²) s, against 2 √(1 + smoothing²) s in
the smoothed image.  A galaxy that is smooth on the scale of the PSF adds one maximum; the
response of a PSF falls through zero into one shallow ring and makes no second maximum.

What is detected is decided by the matched filter (the smoothed image): faint wide sources count
by their light, not by their curvature.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.detect.peaks import find_peaks, refine_peaks
from raydeblend.errors import ConfigError

FloatImage = NDArray[np.float32]

TRUNCATE = 4.0
"""Standard deviations at which the filters end."""
MIN_COVERAGE = 0.6
"""A peak needs so much of its filter's weight on usable pixels."""


@dataclass(frozen=True)
class SharpPeaks:
    """Peaks of one image, the most significant first.

    Attributes
    ----------
    xy
        ``(n, 2)`` sub-pixel positions (x, y), 0-based.
    significance
        ``(n,)`` signal-to-noise ratio of the matched filter there.
    curvature
        ``(n,)`` the same of the Laplacian: how surely this is a peak of its own.
    """

    xy: NDArray[np.float64]
    significance: NDArray[np.float64]
    curvature: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.xy)


@dataclass(frozen=True)
class _Response:
    """What the filters give, ``(y, x)``; 0 where too few pixels are usable.

    `light` and `curvature` are significances; `shape` is the curvature alone, whose maxima are
    where the sources are up to the border.
    """

    light: FloatImage
    curvature: FloatImage
    shape: FloatImage


@dataclass(frozen=True)
class PeakRule:
    """What a peak must have.

    Attributes
    ----------
    threshold
        Least significance, in standard deviations of the matched filter.
    curvature
        Least significance of the curvature.
    prominence
        Least height of the curvature over the saddle to a higher peak, in its standard deviations.
    contrast
        The same as a fraction of the peak's own curvature.
    relative
        Least curvature as a fraction of the highest within `reach` PSF widths (sigma).
    reach
        See `relative`.
    smoothing
        Width of the filter in units of the PSF's; 1 detects faint sources best, less separates
        bright ones better.
    """

    threshold: float = 5.0
    curvature: float = 3.0
    prominence: float = 2.0
    contrast: float = 0.03
    relative: float = 0.02
    reach: float = 8.0
    smoothing: float = 1.0


def find_sharp_peaks(
    image: NDArray[np.floating],
    psf: NDArray[np.floating],
    sigma: float | NDArray[np.floating],
    rule: PeakRule = PeakRule(),
    mask: NDArray[np.bool_] | None = None,
) -> SharpPeaks:
    """Find the peaks of one image.

    Parameters
    ----------
    image
        ``(y, x)`` background subtracted.
    psf
        ``(py, px)``; only its width is used.
    sigma
        Noise of a pixel, or ``(y, x)`` of each, in the image's unit.
    mask
        ``(y, x)``, true where unusable; values that are not finite are unusable too.

    Raises
    ------
    ConfigError
        If the shapes do not agree or the noise is not positive.
    """
    noise, bad = _check(image, sigma, mask)
    width = psf_sigma(psf)
    response = _respond(image, noise, bad, width * rule.smoothing)
    curvature = response.curvature
    # A filter as wide as the PSF detects best, however sharp the one that separates is.
    wide = response if rule.smoothing == 1 else _respond(image, noise, bad, width)
    seen = wide.light
    good = ~bad & (seen >= rule.threshold)
    # Saddles matter only where there is light; most of an image is noise.
    region = (curvature > 0) & (seen >= 0.5 * rule.threshold)
    peaks = find_peaks(curvature, region, rule.prominence, rule.contrast)
    highest = ndimage.maximum_filter(curvature, size=2 * int(rule.reach * width / 2) + 1)
    floor = np.maximum(rule.curvature, rule.relative * highest)
    keep = [good[y, x] and curvature[y, x] >= floor[y, x] for y, x in peaks]
    peaks = peaks[np.array(keep, dtype=bool)]
    heights = seen[tuple(peaks.T)].astype(float)
    order = np.argsort(-heights, kind="stable")
    return SharpPeaks(
        xy=refine_peaks(response.shape, _uphill(response.shape, peaks))[order],
        significance=heights[order],
        curvature=curvature[tuple(peaks.T)].astype(float)[order],
    )


def psf_sigma(psf: NDArray[np.floating]) -> float:
    """Return the standard deviation in pixels of the Gaussian as compact as the PSF's core.

    By the area at half maximum, π (FWHM / 2)², which wings do not touch, on a finer grid.
    """
    stamp = np.asarray(psf, dtype=float)
    return _sigma_of(stamp.tobytes(), stamp.shape)


@lru_cache(maxsize=64)
def _sigma_of(pixels: bytes, shape: tuple[int, ...]) -> float:
    """Return `psf_sigma` of a stamp, which many images share."""
    stamp = np.frombuffer(pixels).reshape(shape)
    fine = ndimage.zoom(stamp, 8, order=3, grid_mode=True, mode="nearest")
    area = float(np.count_nonzero(fine > fine.max() / 2)) / 64
    return float(np.sqrt(area / np.pi) / np.sqrt(2 * np.log(2)))


def _check(
    image: NDArray[np.floating],
    sigma: float | NDArray[np.floating],
    mask: NDArray[np.bool_] | None,
) -> tuple[FloatImage, NDArray[np.bool_]]:
    if image.ndim != 2:
        raise ConfigError(f"the peak finder takes one image (y, x), not {image.shape}")
    for name, values in (("sigma", np.asarray(sigma)), ("mask", mask)):
        if values is not None and values.shape not in ((), image.shape):
            raise ConfigError(f"{name} has shape {values.shape}, the image {image.shape}")
    noise = np.broadcast_to(np.asarray(sigma, dtype=np.float32), image.shape)
    if np.ndim(sigma) == 0 and not noise.flat[0] > 0:
        raise ConfigError(f"sigma must be positive, not {sigma}")
    bad = ~(np.isfinite(image) & np.isfinite(noise) & (noise > 0))
    return noise, bad if mask is None else bad | mask


def _respond(
    image: NDArray[np.floating], noise: FloatImage, bad: NDArray[np.bool_], width: float
) -> _Response:
    smooth, curved = _kernels(width)
    radius = len(smooth) // 2
    inside = (slice(radius, -radius),) * 2
    share, near = _coverage(bad.tobytes(), bad.shape, width)
    light, shape = _filter(_fill(image, bad, near, width, radius), smooth, curved)
    spread = _spread(np.where(bad, 0, noise**2), bad, smooth, curved)
    # What was filled in repeats the noise of its neighbors: the response is 1 / share of theirs.
    weight = np.where(share >= MIN_COVERAGE, share, 0).astype(np.float32)
    return _Response(
        light=np.asarray(light[inside] * weight / spread[0]),
        curvature=np.asarray(shape[inside] * weight**2 / spread[1]),
        shape=shape[inside],
    )


def _uphill(image: FloatImage, peaks: NDArray[np.intp]) -> NDArray[np.intp]:
    """Move pixels ``(n, 2)`` (y, x) to the highest of their neighbors, as at the border."""
    padded = np.pad(image, 1, constant_values=-np.inf)
    step = np.stack(np.meshgrid([0, 1, -1], [0, 1, -1], indexing="ij"), -1).reshape(-1, 2)
    around = peaks[:, None] + step + 1
    best = padded[around[..., 0], around[..., 1]].argmax(axis=1)
    return np.asarray(peaks + step[best])


def _kernels(width: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a Gaussian and its negative second derivative, which sums to zero; ``(2 r + 1,)``."""
    # Narrower filters than the pixels sample are not differentiable on them.
    width = max(width, 0.7)
    radius = int(np.ceil(TRUNCATE * width))
    x2 = (np.arange(-radius, radius + 1) / width) ** 2
    smooth = np.exp(-x2 / 2)
    curved = (1 - x2) * smooth
    return smooth, curved - smooth * curved.sum() / smooth.sum()


def _filter(
    image: FloatImage, smooth: NDArray[np.float64], curved: NDArray[np.float64]
) -> tuple[FloatImage, FloatImage]:
    """Return the image smoothed, and the negative Laplacian of that."""
    rows = _along(image, smooth, 0)
    light = _along(rows, smooth, 1)
    return light, _along(rows, curved, 1) + _along(_along(image, curved, 0), smooth, 1)


def _along(image: FloatImage, kernel: NDArray[np.float64], axis: int) -> FloatImage:
    return np.asarray(ndimage.correlate1d(image, kernel, axis, mode="constant"))


def _spread(
    variance: NDArray[np.floating],
    bad: NDArray[np.bool_],
    smooth: NDArray[np.float64],
    curved: NDArray[np.float64],
) -> list[NDArray[np.floating]]:
    """Return the standard deviations ``(y, x)`` of the two responses to the noise."""
    flat = np.outer(smooth, smooth)
    kernels = (flat, np.outer(curved, smooth) + np.outer(smooth, curved))
    levels = variance[~bad]
    if not len(levels):
        return [np.ones_like(variance)] * 2
    if levels.min() == levels.max() and not bad.any():
        # Up to the border too: what lies beyond is continued, see `_responses`.
        return [np.full_like(variance, np.sqrt(levels[0] * (k**2).sum())) for k in kernels]
    # With half a second of imports, which few cells need.
    from scipy.signal import fftconvolve

    # Unusable pixels and the border stand for as much noise as those around them.
    known = ndimage.gaussian_filter((~bad).astype(np.float32), len(smooth) / 8)
    around = ndimage.gaussian_filter(variance, len(smooth) / 8) / np.maximum(known, 1e-6)
    padded = np.pad(np.where(bad, around, variance), len(smooth) // 2, mode="edge")
    floor = 1e-6 * levels.min()
    return [np.sqrt(np.maximum(fftconvolve(padded, k**2, mode="valid"), floor)) for k in kernels]


@lru_cache(maxsize=4)
def _coverage(
    bad: bytes, shape: tuple[int, int], width: float
) -> tuple[NDArray[np.floating], FloatImage]:
    """Return which part of the filter at each pixel ``(y, x)`` falls on usable ones, and how near.

    The latter is the usable pixels smoothed, wider by the filter's radius on each side.  Images
    that come one after the other mostly have the same mask, which here is its bytes.
    """
    smooth, _ = _kernels(width)
    radius = len(smooth) // 2
    usable = np.pad((~np.frombuffer(bad, bool).reshape(shape)).astype(np.float32), radius)
    share = _along(_along(usable, smooth, 0), smooth, 1)[radius:-radius, radius:-radius]
    near = ndimage.gaussian_filter(usable, width, truncate=TRUNCATE, mode="constant")
    return share / smooth.sum() ** 2, near


def _fill(
    image: NDArray[np.floating],
    bad: NDArray[np.bool_],
    near: FloatImage,
    width: float,
    radius: int,
) -> FloatImage:
    """Return the image, `radius` wider on each side, holes and border continued smoothly.

    `near` is that of `_coverage`.
    """
    values = np.pad(np.where(bad, 0, image).astype(np.float32), radius)
    usable = np.pad(~bad, radius)
    mean = ndimage.gaussian_filter(values, width, truncate=TRUNCATE, mode="constant")
    continued = np.where(near > 1e-3, mean / np.maximum(near, 1e-3), 0)
    return np.where(usable, values, continued).astype(np.float32)
