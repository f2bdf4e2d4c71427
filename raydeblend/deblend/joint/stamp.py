"""The stamp of one blend as the joint fit sees it: which pixels, and which of them summed.

Where a stamp holds next to no light, squares of pixels are fitted as one sample, their weighted
mean: a model hardly bends over a few pixels there, and the outskirts are most of a stamp.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.deblend.joint.config import PixelConfig
from raydeblend.fit.compiled.blend import Mixture, make_mixture
from raydeblend.fit.compiled.samples import Samples, make_samples
from raydeblend.fit.parameters import LOG_RADIUS, POSITION
from raydeblend.fit.profiles import EXPONENTIAL_VARIANCE
from raydeblend.fit.psf import PsfMixture, stack_places
from raydeblend.psf import TilePsf
from raydeblend.tile import BoolArray, FloatArray

ANY_RATIO = 1e12
"""Of weights in a square that may differ as they like, but for pixels that are not used."""


@dataclass(frozen=True)
class Stamp:
    """One blend in noise units.

    Attributes
    ----------
    image, weight
        ``(bands, y, x)`` and its inverse variance, 0 where unusable.
    psf
        Of each band the mixtures of its stamps.
    width
        Standard deviation in pixels of a Gaussian that stands for the PSF.
    pixel_scale
        Arcsec per pixel.
    pixels
        Indices of the pixels to fit, in the flattened image, sample after sample.
    starts
        ``(s,)`` where in `pixels` each sample begins.
    min_shown
        `PixelConfig.min_shown_fraction`.
    origin
        Coordinates (y, x) of the first pixel, where this is a part of a stamp.
    significance
        ``(y, x)`` of the image, where it is known.
    places
        Where each of the mixtures holds, if there are several in a band.
    """

    image: FloatArray
    weight: FloatArray
    psf: tuple[tuple[PsfMixture, ...], ...]
    width: float
    pixel_scale: float
    pixels: NDArray[np.intp]
    starts: NDArray[np.intp]
    min_shown: float = PixelConfig.min_shown_fraction
    origin: tuple[int, int] = (0, 0)
    significance: FloatArray | None = None
    places: TilePsf | None = None

    @property
    def n_values(self) -> int:
        """Pixels that are fitted, counted in each band."""
        return int((self._pixel_weights > 0).sum())

    @cached_property
    def centers(self) -> FloatArray:
        """Coordinates ``(2, s)`` (x, y) of the samples."""
        y, x = np.divmod(self.pixels, self.image.shape[2])
        xy = np.stack([x + self.origin[1], y + self.origin[0]])
        return np.asarray(self._sums(xy) / self.sizes, dtype=np.float32)

    @cached_property
    def weights(self) -> FloatArray:
        """Inverse variances ``(bands, s)`` of the samples."""
        return self._sums(self._pixel_weights)

    @cached_property
    def _pixel_weights(self) -> FloatArray:
        return self.at_pixels(self.weight)

    def at_pixels(self, images: FloatArray) -> FloatArray:
        """Return the fitted pixels ``(..., p)`` of images ``(..., y, x)``."""
        return images.reshape(*images.shape[:-2], -1).take(self.pixels, axis=-1)

    def means(self, images: FloatArray) -> FloatArray:
        """Return the samples ``(..., bands, s)`` of images ``(..., bands, y, x)``."""
        weight = self.weights
        sums = self._sums(self.at_pixels(images) * self._pixel_weights)
        return np.asarray(sums / np.where(weight > 0, weight, 1))

    def chi2(self, residual: FloatArray) -> float:
        """Return χ² of a residual ``(bands, y, x)`` at the samples."""
        return float((self.weights * self.means(residual) ** 2).sum(dtype=np.float64))

    @cached_property
    def data(self) -> FloatArray:
        """The samples ``(bands, s)`` of the image."""
        return self.means(self.image)

    @cached_property
    def samples(self) -> Samples:
        """The samples as the compiled fit takes them."""
        return make_samples(self.data, self.weights, self.centers)

    @cached_property
    def mixture(self) -> Mixture:
        """The Gaussians of galaxies and PSF, as the compiled fit takes them."""
        return make_mixture(*stack_places(self.psf), self.pixel_scale)

    def place(self, xy: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return ``(bands, k)`` which of a band's mixtures holds at positions ``(k, 2)``."""
        if self.places is None:
            return np.zeros((len(self.image), len(xy)), dtype=np.int64)
        return self.places.numbers(xy)

    @cached_property
    def drawn(self) -> dict[str, NDArray[np.generic]]:
        """What `fitting.render` drew last, and of which sources; and `squared_light` of that."""
        return {}

    def squared_light(self, models: FloatArray) -> NDArray[np.float64]:
        """Return the squared significance ``(s,)`` of the light of models ``(k, bands, y, x)``.

        That of the last models is kept, about which a search asks several times.
        """
        if self.drawn.get("models") is not models:
            squared = self.weights * self.means(models.sum(0)) ** 2
            self.drawn.update(models=models, squared=squared.sum(0, dtype=np.float64))
        return np.asarray(self.drawn["squared"], dtype=np.float64)

    @cached_property
    def scatter(self) -> float:
        """χ² of the pixels about their samples, which no model can lower."""
        return self.chi2_of_sky - float((self.weights * self.data**2).sum(dtype=np.float64))

    @cached_property
    def chi2_of_sky(self) -> float:
        """χ² of the pixels without any source."""
        whole = self._pixel_weights * self.at_pixels(self.image) ** 2
        return float(whole.sum(dtype=np.float64))

    def hidden(self, theta: NDArray[np.float64]) -> BoolArray:
        """Tell which sources a band hardly shows though others do, ``(bands, k)``.

        Parameters
        ----------
        theta
            ``(k, 9)`` sources, or positions ``(k, 2)`` of such as small as the PSF.
        """
        if self._shown_alike:
            return np.zeros((len(self.image), len(theta)), dtype=bool)
        good = self.weights > 0
        there = np.asarray(good.any(axis=1))
        anywhere = good.any(axis=0)
        variance = np.full(len(theta), self.width**2)
        if theta.shape[1] > 2:
            radius2 = np.exp(2 * theta[:, LOG_RADIUS])
            variance += EXPONENTIAL_VARIANCE * radius2 / self.pixel_scale**2
        squared = ((self.centers[:, None] - theta[:, POSITION].T[..., None]) ** 2).sum(axis=0)
        light = np.exp(-squared / variance[:, None]) * self.sizes
        seen, most = light @ good.T, light @ anywhere
        return np.asarray(there[:, None] & (self.min_shown * most > seen.T))

    @cached_property
    def _shown_alike(self) -> bool:
        """Whether all bands with data have them in the same samples."""
        good = self.weights > 0
        return bool((good[good.any(axis=1)] == good.any(axis=0)).all())

    def keep(self, chosen: BoolArray) -> Stamp:
        """Return the stamp with some of its samples ``(s,)``."""
        sizes = self.sizes[chosen]
        starts = np.cumsum(sizes) - sizes
        part = replace(self, pixels=self.pixels[np.repeat(chosen, self.sizes)], starts=starts)
        centers, weights = self.centers[:, chosen], self.weights[:, chosen]
        part.remember(mixture=self.mixture, sizes=sizes, centers=centers, weights=weights)
        return part

    def showing(self, image: FloatArray) -> Stamp:
        """Return the stamp with another image ``(bands, y, x)``."""
        other = replace(self, image=image)
        known = ("mixture", "sizes", "centers", "weights", "_pixel_weights")
        other.remember(**{name: getattr(self, name) for name in known})
        return other

    def remember(self, **properties: object) -> None:
        """Keep cached properties that another stamp has too, and that are not quick to make."""
        self.__dict__.update(properties)

    @cached_property
    def sizes(self) -> NDArray[np.intp]:
        """Pixels ``(s,)`` of each sample."""
        return np.diff(self.starts, append=len(self.pixels))

    def _sums(self, values: NDArray[np.generic]) -> FloatArray:
        if not len(self.starts):
            return np.zeros((*values.shape[:-1], 0), dtype=np.float32)
        return np.asarray(np.add.reduceat(values, self.starts, axis=-1))


def lit_samples(
    significance: FloatArray,
    width: float,
    weight: FloatArray,
    config: PixelConfig,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return `pixels` and `starts` of a `Stamp`: the usable pixels in or near the light of sources.

    All of them where nothing is lit, since a source may be asked for all the same.

    Parameters
    ----------
    significance
        ``(y, x)`` the smoothed image.
    width
        Of the PSF, in pixels.
    weight
        ``(bands, y, x)``.
    """
    usable = np.asarray((weight > 0).any(0))
    used, lit = usable, significance > config.lit_significance
    if lit.any():
        used = usable & (ndimage.distance_transform_edt(~lit) <= config.lit_margin * width)
    sample = np.arange(used.size).reshape(used.shape)
    if width >= config.min_joined_psf_width:
        smoothed = ndimage.maximum_filter(significance, 3)
        faint = usable & (smoothed < config.joined_significance)
        used = used | _join(sample, used, faint, weight, config)
    return _in_order(sample, used)


def squares(
    weight: FloatArray, joined: BoolArray, side: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return `pixels` and `starts` of a `Stamp`: all usable pixels, some of them in squares.

    Parameters
    ----------
    weight
        ``(bands, y, x)``.
    joined
        ``(y, x)`` the pixels that may be part of a square.
    side
        Of the squares, in pixels.
    """
    used = np.asarray((weight > 0).any(0))
    sample = np.arange(used.size).reshape(used.shape)
    config = PixelConfig(joined_side=side, max_weight_ratio=ANY_RATIO)
    _join(sample, used, used & joined, weight, config)
    return _in_order(sample, used)


def _in_order(
    sample: NDArray[np.intp], used: BoolArray
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the used pixels ``(y, x)``, sample after sample, and where each sample begins."""
    pixels = np.flatnonzero(used)
    order = np.argsort(sample.ravel()[pixels], kind="stable")
    pixels = pixels[order]
    first = np.diff(sample.ravel()[pixels], prepend=-1) != 0
    return pixels, np.flatnonzero(first)


def _join(
    sample: NDArray[np.intp],
    used: BoolArray,
    faint: BoolArray,
    weight: FloatArray,
    config: PixelConfig,
) -> BoolArray:
    """Give the pixels ``(y, x)`` of each faint square one number, in place; say which.

    Squares that are used in part are used as a whole.
    """
    side = config.joined_side
    rows, columns = (length // side for length in sample.shape)

    def over_squares(combine: np.ufunc, images: NDArray[Any]) -> NDArray[Any]:
        inner = images[..., : rows * side, : columns * side]
        return reduce(combine, [inner[..., y::side, x::side] for y, x in np.ndindex(side, side)])

    least, most = over_squares(np.minimum, weight), over_squares(np.maximum, weight)
    even = (most <= config.max_weight_ratio * least).all(0)
    joined = even & over_squares(np.logical_and, faint) & over_squares(np.logical_or, used)
    inside = np.s_[: rows * side, : columns * side]
    is_joined = np.zeros(sample.shape, dtype=bool)
    is_joined[inside] = joined.repeat(side, 0).repeat(side, 1)
    first = sample[inside][::side, ::side].repeat(side, 0).repeat(side, 1)
    sample[inside] = np.where(is_joined[inside], first, sample[inside])
    return is_joined
