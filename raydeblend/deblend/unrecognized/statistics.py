"""What makes a source suspect of being two: cheap statistics of its image and of its model.

Each source is seen alone, its neighbors' models taken off.  The main statistic is a score test:
how much χ² would fall if a point source were added at the best place near, in first order, with
what the galaxy's own parameters could take over (position, size, shear, flux in each band)
projected out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.deblend.unrecognized.config import LOOK
from raydeblend.detect.footprints import gaussian_width
from raydeblend.tile import BoolArray, FloatArray

Array = NDArray[np.float64]

FEATURES = (
    "log_snr",
    "log_size",
    "ellipticity",
    "log_chi2",
    "log_gain",
    "gain_distance",
    "log_color_shift",
    "nearness",
    "log_sources",
)
"""Of `features`, in order: ln of the signal to noise, errors of the models being noise too; ln of
the size over the PSF's; ellipticity;
ln of the reduced χ² of the core; ln(1 + root of the best Δχ² of one more source), and how far away
that is in PSF widths; ln(1 + root of χ² of the bands' positions being one); 1 / (1 + d), d the PSF
widths to the nearest source of the footprint; ln of the number of sources in the footprint."""


@dataclass(frozen=True)
class Views:
    """Sources one by one.

    Attributes
    ----------
    data
        ``(n, bands, S, S)`` the image less the neighbors' models, in noise units.
    weight
        The same shape: inverse variance in noise units, errors of all models of the footprint
        included; 0 where unusable.
    model
        The same shape: the source's own model.
    center
        ``(n, 2)`` the source in the view (x, y).
    nearest
        ``(n,)`` pixels to the nearest other source of its footprint; infinite if it is alone.
    n_sources
        ``(n,)`` in its footprint.
    """

    data: FloatArray
    weight: FloatArray
    model: FloatArray
    center: Array
    nearest: Array
    n_sources: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.data)

    def take(self, index: NDArray[np.intp]) -> Views:
        """Return some of them."""
        return Views(*(array[index] for array in vars(self).values()))


def view_sources(
    image: FloatArray,
    variance: FloatArray,
    unusable: BoolArray,
    models: FloatArray,
    xy: FloatArray,
    side: int = LOOK.side,
) -> Views:
    """Cut a view about each source of one footprint.

    Parameters
    ----------
    image, variance, unusable
        ``(bands, y, x)``.
    models
        ``(k, bands, y, x)`` in the image's unit.
    xy
        ``(k, 2)`` positions (x, y).
    """
    sigma = np.sqrt(np.median(variance, axis=(1, 2), keepdims=True))
    total = models.sum(0)
    spread = variance + (LOOK.model_error * total) ** 2
    weight = np.where(unusable, 0, sigma**2 / spread).astype(np.float32)
    rest = np.where(unusable, 0, image - total) / sigma
    own = models / sigma
    corner = np.floor(np.asarray(xy, dtype=np.float64) + 0.5).astype(int) - side // 2
    data, weights, own_models = (
        np.array(
            [_window(array, x0, y0, side) for array, (x0, y0) in cuts], dtype=np.float32
        ).reshape(-1, len(image), side, side)
        for cuts in (
            zip(rest + own, corner, strict=True),
            [(weight, place) for place in corner],
            zip(own, corner, strict=True),
        )
    )
    apart = np.linalg.norm(xy[:, None] - xy[None], axis=2) + np.diag(np.full(len(xy), np.inf))
    count = np.full(len(xy), len(xy))
    nearest = apart.min(axis=1, initial=np.inf)
    return Views(data, weights, own_models, xy - corner, nearest, count)


def join(views: list[Views]) -> Views:
    """Return the views of several footprints as one."""
    arrays = zip(*(vars(each).values() for each in views), strict=True)
    return Views(*(np.concatenate(parts) for parts in arrays))


def _window(array: FloatArray, x0: int, y0: int, side: int) -> FloatArray:
    """Return the square ``(bands, side, side)`` at a corner, 0 off the array."""
    out = np.zeros((len(array), side, side), dtype=np.float32)
    height, width = array.shape[1:]
    top, left = max(y0, 0), max(x0, 0)
    part = array[:, top : min(y0 + side, height), left : min(x0 + side, width)]
    out[:, top - y0 : top - y0 + part.shape[1], left - x0 : left - x0 + part.shape[2]] = part
    return out


def features(views: Views, psf: tuple[FloatArray, ...], pixel_scale: float) -> Array:
    """Return the statistics ``(n, 9)`` that `FEATURES` names; else as `look_at`."""
    return look_at(views, psf, pixel_scale)[0]


def look_at(views: Views, psf: tuple[FloatArray, ...], pixel_scale: float) -> tuple[Array, Array]:
    """Return `features`, and where one more source would be best, ``(n, 2)`` (x, y).

    Parameters
    ----------
    psf
        One stamp per band.
    pixel_scale
        Arcsec per pixel.
    """
    width = gaussian_width(psf)
    weight, residual = views.weight, views.data - views.model
    distance = _distance(views)
    tangents = _tangents(views)
    gain, where = best_gain(views, width, LOOK.reach / pixel_scale)
    size, ellipticity = _shape(views, width)
    signal = np.sqrt((views.weight * views.model**2).sum((1, 2, 3)))
    columns = np.stack(
        [
            np.log(np.clip(signal, 1, None)),
            np.log(size),
            ellipticity,
            _log_core_chi2(residual, weight, distance < LOOK.core * width),
            np.log1p(np.sqrt(gain)),
            np.linalg.norm(where - views.center, axis=1) / width,
            np.log1p(_color_shift(residual, weight, tangents)),
            1 / (1 + np.minimum(views.nearest / width, LOOK.far)),
            np.log(views.n_sources),
        ],
        axis=1,
    ).astype(np.float64)
    return columns, where


def may_be_doubtful(statistics: Array) -> BoolArray:
    """Tell which sources ``(n,)`` could be in doubt under any fit: the residual shows something.

    Only of these are the networks asked, when the calibration is learned and when it is used.
    """
    gain = statistics[:, FEATURES.index("log_gain")]
    return np.asarray(gain >= np.log1p(LOOK.least_doubt))


def best_gain(views: Views, width: float, reach: float) -> tuple[Array, Array]:
    """Return the best Δχ² ``(n,)`` of one more point source and its place ``(n, 2)`` (x, y).

    With s and t the overlap of the residual with a point source of free flux in each band and with
    the galaxy's own tangents, N the norm of the former, G the Gram matrix of the latter and V the
    overlap of both: Δχ² = s'ᵀ (N − V G⁻¹ Vᵀ)⁻¹ s', s' = s − V G⁻¹ t.

    Parameters
    ----------
    width
        Standard deviation in pixels of the point source.
    reach
        Largest distance from the source in pixels.
    """
    tangents, weight = _tangents(views), views.weight
    residual = weight * (views.data - views.model)
    score = _filter(residual, width)
    norm = _filter(weight, width / np.sqrt(2)) / (4 * np.pi * width**2)
    overlap = _filter(weight[:, :, None] * tangents, width)  # (n, b, t, y, x)
    gram = _gram(tangents, weight)
    n, bands = score.shape[:2]
    near = np.argwhere(_around(views.center, reach, score.shape[2:]))
    row, y, x = near.T
    own = _by_parameter(overlap[row, :, :, y, x], bands)  # (m, b, parameters)
    inverse = np.linalg.inv(gram)
    matrix = -own @ inverse[row] @ own.transpose(0, 2, 1)
    each = np.arange(bands)
    full = norm[row, :, y, x]
    # A flux that a band can hardly tell must not decide whether their sum is positive.
    full = np.where(full > 0, np.maximum(full, LOOK.shown * full.max(axis=1, keepdims=True)), full)
    matrix[:, each, each] += full + LOOK.ridge * full + 1e-12
    pull = _by_parameter((residual[:, :, None] * tangents).sum((3, 4)), bands).sum(1)
    moved = (inverse @ pull[..., None])[row]
    side = score[row, :, y, x] - (own @ moved)[..., 0]
    flux = np.linalg.solve(matrix, side[..., None])[..., 0]
    gain = np.where(flux.sum(1) > 0, (flux * side).sum(1), 0)
    best = np.zeros(n)
    np.maximum.at(best, row, gain)
    order = np.argsort(gain, kind="stable")
    where = views.center.copy()
    where[row[order]] = np.stack([x, y], axis=1)[order]
    return best, where


def _tangents(views: Views) -> FloatArray:
    """Return ``(n, bands, 6, S, S)``: the model, and its change with x, y, size and two shears."""
    model = views.model
    dy, dx = np.gradient(model, axis=(2, 3))
    row, column = np.indices(model.shape[2:])
    x, y = (
        (place - views.center[:, axis, None, None]).astype(np.float32)[:, None]
        for axis, place in enumerate((column, row))
    )
    parts = [model, dx, dy, x * dx + y * dy, x * dx - y * dy, y * dx + x * dy]
    return np.stack(parts, axis=2)


def _by_parameter(overlap: Array, bands: int) -> Array:
    """Return ``(m, bands, bands + 5)``: a flux for each band, the other tangents shared by all."""
    own = np.zeros((len(overlap), bands, bands + 5))
    each = np.arange(bands)
    own[:, each, each] = overlap[:, :, 0]
    own[:, :, bands:] = overlap[:, :, 1:]
    return own


def _gram(tangents: FloatArray, weight: FloatArray) -> Array:
    """Return ``(n, bands + 5, bands + 5)``, made regular by a little more on its diagonal."""
    n, bands, t = tangents.shape[:3]
    flat = tangents.reshape(n, bands, t, -1).astype(np.float64)
    inner = (flat * weight.reshape(n, bands, 1, -1)) @ flat.transpose(0, 1, 3, 2)
    gram = np.zeros((n, bands + 5, bands + 5))
    each = np.arange(bands)
    gram[:, each, each] = inner[:, :, 0, 0]
    gram[:, :bands, bands:] = inner[:, :, 0, 1:]
    gram[:, bands:, :bands] = inner[:, :, 1:, 0].transpose(0, 2, 1)
    gram[:, bands:, bands:] = inner[:, :, 1:, 1:].sum(1)
    diagonal = np.arange(bands + 5)
    gram[:, diagonal, diagonal] *= 1 + 1e-4
    gram[:, diagonal, diagonal] += 1e-9
    return gram


def _filter(images: FloatArray, width: float) -> Array:
    """Return images ``(..., y, x)`` convolved with a Gaussian of unit sum."""
    rows, columns = (_kernel(size, width) for size in images.shape[-2:])
    return np.asarray(rows @ images @ columns.T)


@lru_cache
def _kernel(size: int, width: float) -> FloatArray:
    """Return the matrix ``(size, size)`` of that along one axis: views are too small for loops."""
    each = np.eye(size, dtype=np.float32)
    return np.asarray(ndimage.gaussian_filter1d(each, width, axis=0, mode="constant", truncate=3.5))


def _distance(views: Views) -> Array:
    """Return ``(n, S, S)`` pixels to the source."""
    y, x = np.indices(views.data.shape[2:])
    dx = x - views.center[:, 0, None, None]
    dy = y - views.center[:, 1, None, None]
    return np.asarray(np.hypot(dx, dy))


def _around(center: Array, reach: float, shape: tuple[int, ...]) -> BoolArray:
    y, x = np.indices(shape)
    distance = np.hypot(x - center[:, 0, None, None], y - center[:, 1, None, None])
    return np.asarray(distance <= reach)


def _log_core_chi2(residual: FloatArray, weight: FloatArray, core: BoolArray) -> Array:
    inside = core[:, None]
    chi2 = (weight * residual**2 * inside).sum((1, 2, 3))
    count = ((weight > 0) & inside).sum((1, 2, 3))
    return np.asarray(np.log(np.clip(chi2 / np.maximum(count, 1), 0.1, None)))


def _color_shift(residual: FloatArray, weight: FloatArray, tangents: FloatArray) -> Array:
    """Return the root of χ² ``(n,)`` of the hypothesis that all bands have one position."""
    slopes = tangents[:, :, 1:3]
    pull = (weight[:, :, None] * residual[:, :, None] * slopes).sum((3, 4))
    norm = (weight[:, :, None] * slopes**2).sum((3, 4))
    shift = pull / np.maximum(norm, 1e-9)
    mean = (norm * shift).sum(1, keepdims=True) / np.maximum(norm.sum(1, keepdims=True), 1e-9)
    return np.asarray(np.sqrt((norm * (shift - mean) ** 2).sum((1, 2))))


def _shape(views: Views, width: float) -> tuple[Array, Array]:
    """Return size over the PSF's and ellipticity of the model, by Gaussian-weighted moments."""
    model = np.clip(views.model, 0, None).sum(1)
    y, x = np.indices(model.shape[1:])
    x = x - views.center[:, 0, None, None]
    y = y - views.center[:, 1, None, None]
    light = model * np.exp(-(x**2 + y**2) / (2 * (2 * width) ** 2))
    total = np.maximum(light.sum((1, 2)), 1e-9)
    xx, yy, xy = ((light * each).sum((1, 2)) / total for each in (x * x, y * y, x * y))
    trace = np.maximum(xx + yy, 1e-3)
    # A Gaussian of the PSF's width under this weight: 1 / (1 + 1/4) of its variance.
    return np.sqrt(trace / (1.6 * width**2)), np.hypot(xx - yy, 2 * xy) / trace
