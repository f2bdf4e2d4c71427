"""Every source as if it were a point: its flux in the PSF, and how much wider than that it is.

The neighbors' models are taken out; then, in each band, the PSF at the source's position and the
difference between the PSF and one widened a little are fitted to the pixels.  The first gives the
flux of a point, the second how far the light reaches beyond the PSF: T of the source before the
PSF, to first order, with the error that noise makes.  Neither depends on what profile was fitted.

Pixels count alike in the flux of a point, as in the surveys' own (Bosch et al. 2018, PASJ 70, S5,
section 4.9.6): weights by the noise would make the flux of a galaxy depend on how bright it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, factorial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from raydeblend.errors import TileError
from raydeblend.fit.psf import normalized
from raydeblend.fit.stamps import weight_of
from raydeblend.measure.psfs import Psf, psf_of_each
from raydeblend.tile import Blend

Array = NDArray[np.float64]

SPLINE = 5
"""Order of the splines that move a PSF by a part of a pixel: wrong by less than 0.1 % of its peak
for PSFs of 2.5 pixels and more."""
KEPT = 512
"""PSFs whose splines are kept in memory, some 60 kB each."""
FAR = 1e6
"""Pixels beyond which a position is none."""
_TRUNCATED = np.array([(-1) ** k * comb(SPLINE + 1, k) for k in range(SPLINE + 2)]) / factorial(
    SPLINE
)


@dataclass(frozen=True)
class PointConfig:
    """How a source is fitted as a point.

    Attributes
    ----------
    reach
        Widths of the PSF's core within which it is fitted: what is farther out tells nothing.
    widening
        Variance, in those of the PSF's core, of the Gaussian that widens it.
    least_information
        Part of the PSF's own Σ P² that usable pixels must hold for a flux.
    """

    reach: float = 7.0
    widening: float = 0.25
    least_information: float = 0.05


POINTS = PointConfig()


@dataclass(frozen=True)
class PointSources:
    """What k sources are as points.

    Attributes
    ----------
    flux, flux_err
        ``(k, bands)`` of the PSF at the source, in the unit of the image; NaN where unusable
        pixels hide it.  The errors are of the pixels' noise alone.
    excess, excess_err
        ``(k,)`` T before the PSF over T of the PSF, all bands together, and its error.
    lost
        ``(k,)`` part of the PSF's light that falls on unusable pixels, in the band with most.
    """

    flux: Array
    flux_err: Array
    excess: Array
    excess_err: Array
    lost: Array

    def take(self, index: slice | NDArray[np.intp]) -> PointSources:
        """Return the chosen sources."""
        return PointSources(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def measure_points(
    blend: Blend, models: ArrayLike, xy: ArrayLike, psf: Psf | Sequence[Psf]
) -> PointSources:
    """Measure the sources of one blend.

    Parameters
    ----------
    models
        ``(k, bands, y, x)`` in the unit of the image; a source's own is not used.
    xy
        ``(k, 2)`` positions (x, y) in pixels of the blend's stamp.
    psf
        One odd stamp ``(py, px)`` per band, or such a sequence for each source; a band whose PSF
        cannot be used is not measured.
    """
    light, places = np.nan_to_num(np.asarray(models, dtype=float)), np.asarray(xy, dtype=float)
    weight = np.where(np.isfinite(blend.image), weight_of(blend), 0.0)
    residual = np.where(weight > 0, blend.image, 0.0) - light.sum(0)
    seeing = psf_of_each(psf, len(light), "sources")
    rows = [
        _measure(residual, own, weight, place, kernels)
        for own, place, kernels in zip(light, places, _kernels_of_each(seeing), strict=True)
    ]
    bands = len(residual)
    return PointSources(
        flux=np.array([row.flux for row in rows]).reshape(-1, bands),
        flux_err=np.array([row.flux_err for row in rows]).reshape(-1, bands),
        excess=np.array([row.excess for row in rows]),
        excess_err=np.array([row.excess_err for row in rows]),
        lost=np.array([row.lost for row in rows]),
    )


@dataclass(frozen=True)
class _Kernel:
    """A PSF of unit flux and its change with T over its own T, as coefficients ``(2, y, x)``.

    `half` is the reach in pixels about its middle that is fitted.
    """

    splines: Array
    half: int

    def at(self, shift: Array) -> tuple[Array, Array]:
        """Return PSF and change, moved by parts of a pixel (y, x), within reach."""
        rows, columns = (
            _moved(size, part, self.half)
            for size, part in zip(self.splines.shape[1:], shift.tolist(), strict=True)
        )
        point, change = rows @ self.splines @ columns.T
        return point, change


@dataclass(frozen=True)
class _Point:
    """One source, see `PointSources`."""

    flux: Array
    flux_err: Array
    excess: float
    excess_err: float
    lost: float


def _kernels_of_each(seeing: Sequence[Psf]) -> Iterator[Sequence[_Kernel | None]]:
    """Yield the kernels of each source, made once for sources in a row of one PSF."""
    last: Psf | None = None
    for psf in seeing:
        if psf is not last:
            kernels = [_kernel_or_none(np.asarray(stamp, dtype=float)) for stamp in psf]
        last = psf
        yield kernels


def _kernel_or_none(stamp: Array) -> _Kernel | None:
    try:
        point = normalized(stamp)
    except TileError:
        return None
    return _kernel(point.tobytes(), point.shape)


@lru_cache(maxsize=KEPT)
def _kernel(data: bytes, shape: tuple[int, int]) -> _Kernel:
    point = np.frombuffer(data).reshape(shape)
    # Of a Gaussian as high: robust to wings, unlike moments.
    core = 1 / np.sqrt(2 * np.pi * point.max())
    wide = np.sqrt(POINTS.widening) * core
    room = int(np.ceil(4 * wide)) + SPLINE
    point = np.pad(point, room)
    change = (ndimage.gaussian_filter(point, wide) - point) / POINTS.widening
    half = min(int(np.ceil(POINTS.reach * core)), max(shape) // 2)
    return _Kernel(
        np.stack([ndimage.spline_filter(each, SPLINE) for each in (point, change)]), half
    )


def _moved(size: int, shift: float, half: int) -> Array:
    """Return the matrix ``(2 half + 1, size)`` from coefficients to values at moved pixels."""
    to = np.arange(-half, half + 1) + size // 2
    taps = _spline(np.arange(-SPLINE, SPLINE + 1) - shift)
    offset = to[:, None] - np.arange(size)
    near = np.abs(offset) <= SPLINE
    return np.where(near, taps[np.where(near, offset, 0) + SPLINE], 0.0)


def _spline(x: NDArray[np.floating]) -> Array:
    """Return the B-spline of degree `SPLINE` about 0 (Schoenberg 1946): truncated powers."""
    powers = np.maximum(x[:, None] + (SPLINE + 1) / 2 - np.arange(SPLINE + 2), 0) ** SPLINE
    return np.asarray(powers @ _TRUNCATED)


def _measure(
    residual: Array, own: Array, weight: Array, place: Array, kernels: Sequence[_Kernel | None]
) -> _Point:
    flux, error, lost = (np.full(len(kernels), start) for start in (np.nan, np.nan, 1.0))
    precision, told = 0.0, 0.0
    for band, kernel in enumerate(kernels):
        if kernel is None:
            continue
        window = _window(residual[band], own[band], weight[band], place, kernel)
        if window is None:
            continue
        lost[band] = window.lost
        flux[band], error[band] = _point_flux(window)
        widened, information = _widening(window)
        precision, told = precision + information, told + information * widened
    if not precision > 0:
        return _Point(flux, error, np.nan, np.nan, float(lost.max()))
    return _Point(flux, error, told / precision, precision**-0.5, float(lost.max()))


def _point_flux(window: _Window) -> tuple[float, float]:
    norm = (window.point**2).sum()
    variance = (window.point**2 / window.weight).sum()
    return float((window.point * window.data).sum() / norm), float(np.sqrt(variance) / norm)


def _widening(window: _Window) -> tuple[float, float]:
    """Return how much wider than the PSF the light is, and 1 / variance of that, 0 if unknown."""
    point, change, data = window.point, window.change, window.data
    of_point, of_change = window.weight * point, window.weight * change
    pp, pc, cc = of_point @ point, of_point @ change, of_change @ change
    right_p, right_c = of_point @ data, of_change @ data
    determinant = pp * cc - pc**2
    amplitude, widening = cc * right_p - pc * right_c, pp * right_c - pc * right_p
    if not (determinant > 1e-9 * pp * cc and amplitude != 0):
        return 0.0, 0.0
    return float(widening / amplitude), float((amplitude / determinant) ** 2 * determinant / pp)


@dataclass(frozen=True)
class _Window:
    """The usable pixels ``(p,)`` of one band about a source.

    `lost` is the part of the PSF's light on others.
    """

    data: Array
    weight: Array
    point: Array
    change: Array
    lost: float


def _window(
    residual: Array, own: Array, weight: Array, place: Array, kernel: _Kernel
) -> _Window | None:
    """Return the pixels about a source; None if the usable ones hold next to nothing of its PSF."""
    if not np.isfinite(place).all() or np.abs(place).max() > FAR:
        return None
    middle = np.floor(place + 0.5).astype(int)
    shift = (place - middle)[::-1]
    point, change = kernel.at(shift)
    low = middle[::-1] - np.array(point.shape) // 2
    first, last = np.maximum(low, 0), np.minimum(low + point.shape, residual.shape)
    if (last <= first).any():
        return None
    there = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    here = tuple(slice(a, b) for a, b in zip(first - low, last - low, strict=True))
    used = weight[there] > 0
    seen = point[here][used]
    if (seen**2).sum() < POINTS.least_information * (point**2).sum():
        return None
    data = (residual[there] + own[there])[used]
    return _Window(
        data, weight[there][used], seen, change[here][used], float(1 - seen.sum() / point.sum())
    )
