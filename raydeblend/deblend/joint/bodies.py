"""Bodies of large galaxies, which are fitted before what lies on them.

Of a galaxy of a hundred pixels the peaks are arms, knots and noise on them, and each would take its
share of the light.  So the smooth body is fitted first, to squares of pixels and without what
stands out of it, and taken off; how far the light departs from a smooth profile is measured, and
counts as noise: what lies on the body is a source if it stands out from that too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from raydeblend.deblend.joint.blend_fit import (
    BlendFit,
    FitRequest,
    better_of,
    join,
    refit,
    without_sources,
)
from raydeblend.deblend.joint.config import BodyConfig
from raydeblend.deblend.joint.crowds.light import images
from raydeblend.deblend.joint.crowds.patches import Patch, draw
from raydeblend.deblend.joint.fitting import fit_requests
from raydeblend.deblend.joint.photometry import components
from raydeblend.deblend.joint.search import first_peaks
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.stamp import Stamp, squares
from raydeblend.deblend.peaks import DETECT
from raydeblend.detect.footprints import matched_filter, matched_filters
from raydeblend.detect.smoothing import smoothed_stamp
from raydeblend.fit.half_light import half_light_radius
from raydeblend.fit.parameters import (
    BULGE_LOG_RADIUS,
    LOG_RADII,
    LOG_RADIUS,
    PARAMETERS,
    POSITION,
)
from raydeblend.tile import BoolArray, FloatArray

Array = NDArray[np.float64]
ONE_SIGMA = 0.841
"""Part of a normal distribution below one standard deviation."""


@dataclass(frozen=True)
class Body:
    """One large galaxy.

    Attributes
    ----------
    fit
        The one source, with the flux of all its light.
    patch
        Its light.
    part
        ``(y, x)`` which part of the light within a PSF is structure.
    most_radius
        Largest half-light radius in pixels that it may have.
    """

    fit: BlendFit
    patch: Patch
    part: FloatArray
    most_radius: float


@dataclass(frozen=True)
class Bodies:
    """The large galaxies of a stamp, which has all light."""

    stamp: Stamp
    bodies: tuple[Body, ...] = ()

    @property
    def patches(self) -> list[Patch]:
        """The light of each."""
        return [body.patch for body in self.bodies]

    @cached_property
    def rest(self) -> Stamp:
        """The stamp without their light; what structure they have is part of the noise."""
        rest = self.stamp
        for light, body in zip(images(self.patches, rest.image.shape), self.bodies, strict=True):
            rest = _without(rest, light, body.part)
        return rest

    def structure(self) -> Array:
        """Return the peaks ``(n, 2)`` of the stamp where bodies are detected by themselves.

        Those at which no source is found are their structure.
        """
        peaks, light = first_peaks(self.stamp), self.stamp.image - self.rest.image
        seen = matched_filter(light, self.stamp.weight, self.stamp.width, smoothed_stamp)
        y, x = np.floor(peaks.T[::-1] + 0.5).astype(int)
        at = y.clip(0, len(seen) - 1), x.clip(0, seen.shape[1] - 1)
        return np.asarray(peaks[seen[at] > DETECT.threshold])

    def more(self, settings: FitSettings) -> Bodies:
        """Return these and others that are found beside them."""
        found = self
        while len(found.bodies) < settings.config.bodies.most:
            body = _find_body(found.rest, settings)
            if body is None or found.hold(body.fit.xy[0]):
                break
            found = replace(found, bodies=(*found.bodies, body))
        return found

    def hold(self, xy: Array) -> bool:
        """Tell whether a place ``(2,)`` is within the half-light radius of one."""
        return any(
            np.hypot(*(body.fit.xy[0] - xy)) < _radius(body.fit, self.stamp) for body in self.bodies
        )

    def again(self, others: list[Patch], settings: FitSettings) -> Bodies:
        """Return them fitted again, one after the other, without the light of others on them.

        From now on they have the light that their profiles do not follow.
        """
        bodies = list(self.bodies)
        for i, body in enumerate(bodies):
            beside = others + [other.patch for other in bodies if other is not body]
            bodies[i] = _fit_again(body, self.stamp, self.rest.weight, beside, settings)
        return replace(self, bodies=tuple(bodies))


def find_bodies(stamp: Stamp, settings: FitSettings) -> Bodies | None:
    """Return the large galaxies of a stamp; None where there is none."""
    found = Bodies(stamp).more(settings)
    return found if found.bodies else None


def _find_body(stamp: Stamp, settings: FitSettings) -> Body | None:
    """Return the largest body of a stamp."""
    config = settings.config.bodies
    broad = broad_light(stamp, config)
    if broad is None:
        return None
    y, x = np.unravel_index(np.argmax(broad), broad.shape)
    start = np.array([[x, y]], dtype=np.float64)
    own, others = _regions(broad, (int(y), int(x)), config)
    radius = float(np.sqrt(own.sum() / np.pi))
    outstanding = _stands_out(stamp, broad, start[0], config)
    weight = np.where(outstanding | others, np.float32(0), stamp.weight)
    fit = _best_fit(_coarse(stamp, start[0], weight, config), start, radius, settings)
    most = config.most_radius * radius
    small = _radius(fit, stamp) < config.min_radius * stamp.width
    if small or _whole_radius(fit, stamp) > most:
        return None
    patch = draw(stamp, fit, 0, settings.config.blocks)
    (light,) = images([patch], stamp.image.shape)
    if _bright_neighbors(stamp, light, fit.xy[0], config) > config.most_neighbors:
        return None
    part = roughness(stamp, light, weight, config)
    if part is None or part.max() <= config.min_roughness:
        return None
    return Body(fit, patch, part, most)


def _fit_again(
    body: Body, stamp: Stamp, weight: FloatArray, beside: list[Patch], settings: FitSettings
) -> Body:
    """Return a body fitted again without the light of what is `beside` it.

    One that would become too large stays as it was.

    `weight` ``(bands, y, x)`` has the structure of all bodies among the noise.
    """
    config = settings.config.bodies
    shown = stamp.image.copy()
    for other in beside:
        other.take_from(shown)
    own = stamp.showing(shown)
    coarse = _coarse(own, body.fit.xy[0], weight, config)
    (fit,) = fit_requests([refit(coarse, body.fit)], settings)
    if not _whole_radius(fit, stamp) <= body.most_radius:
        return body
    smooth = draw(stamp, fit, 0, settings.config.blocks)
    patch = _with_uneven(smooth, own, stamp.image - shown, config)
    (light,) = images([patch], shown.shape)
    part = roughness(own, light, own.weight, config)
    fit = _with_all_light(fit, smooth, own)
    return replace(body, fit=fit, patch=patch, part=body.part if part is None else part)


def _radius(fit: BlendFit, stamp: Stamp) -> float:
    """Return the half-light radius in pixels of the one source's disk."""
    return float(np.exp(fit.theta[0, LOG_RADIUS])) / stamp.pixel_scale


def _whole_radius(fit: BlendFit, stamp: Stamp) -> float:
    """Return the half-light radius in pixels of disk and bulge of the one source."""
    radius, _ = half_light_radius(components(fit, np.ones(fit.total.T.shape)))
    return float(radius[0]) / stamp.pixel_scale


def _with_all_light(fit: BlendFit, smooth: Patch, own: Stamp) -> BlendFit:
    """Return a body's fit, its flux scaled so that its light is as much as what is shown there.

    What a smooth profile does not follow, such as arms, is light of the galaxy all the same.

    Parameters
    ----------
    smooth
        The light of the fit.
    own
        The stamp without the other sources.
    """
    window = (slice(None), *smooth.box.slices)
    part = np.where(smooth.lit & (own.weight[window] > 0), 1.0, 0.0)
    model, seen = ((part * each).sum((1, 2)) for each in (smooth.light, own.image[window]))
    known = (model > 0) & (seen > 0)
    factor = np.where(known, seen, 1.0) / np.where(known, model, 1.0)
    flux_cov = fit.flux_cov * (factor[:, None] * factor)[..., None]
    return replace(fit, flux=fit.flux * factor[:, None, None], flux_cov=flux_cov)


def _with_uneven(smooth: Patch, own: Stamp, others: FloatArray, config: BodyConfig) -> Patch:
    """Return a body's light with what its profile does not follow, where that is broad.

    That is the median over squares larger than the PSF, of pixels without much light of others.

    Parameters
    ----------
    smooth
        The light of the profile.
    own
        The stamp without the other sources.
    others
        ``(bands, y, x)`` their light.
    """
    window = (slice(None), *smooth.box.slices)
    weight = own.weight[window]
    usable = (weight > 0) & (others[window] < config.most_others * smooth.light)
    left = broad_median(own.image[window] - smooth.light, usable, config)
    bright = (smooth.light * np.sqrt(weight)).max(0) > 1
    uneven = np.clip(left, -smooth.light, config.most_uneven * smooth.light)
    return replace(smooth, light=smooth.light + np.where(bright, uneven, np.float32(0)))


def broad_median(image: FloatArray, usable: BoolArray, config: BodyConfig) -> FloatArray:
    """Return the medians ``(bands, y, x)`` of an image over three by three squares of pixels.

    Of the means of squares, 0 where there is no usable pixel near, and linear between.
    """
    side = config.square
    rows, columns = (-(-n // side) for n in image.shape[1:])
    pad = [(0, 0), (0, rows * side - image.shape[1]), (0, columns * side - image.shape[2])]
    number, total = (
        np.pad(each, pad).reshape(len(image), rows, side, columns, side).sum((2, 4))
        for each in (usable, np.where(usable, image, 0))
    )
    mean = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    wide = np.pad(mean, [(0, 0), (1, 1), (1, 1)], constant_values=np.nan)
    shifted = [wide[:, y : y + rows, x : x + columns] for y, x in np.ndindex(3, 3)]
    known = np.isfinite(shifted).any(0)
    middle = np.nanmedian(np.where(known, shifted, 0), axis=0)
    y, x = ((np.arange(n) + 0.5) / side - 0.5 for n in image.shape[1:])
    places = np.meshgrid(y, x, indexing="ij")
    between = [ndimage.map_coordinates(band, places, order=1, mode="nearest") for band in middle]
    return np.asarray(between, dtype=np.float32)


def _best_fit(coarse: Stamp, start: Array, radius: float, settings: FitSettings) -> BlendFit:
    """Return the better of two fits of a body, from a usual size and from that of the broad light.

    From a tenth of its size a body may end as a steep profile, far from the minimum.  `radius` is
    that of the broad light, in pixels.
    """
    usual = FitRequest(coarse, start, np.zeros(1, dtype=bool))
    broad_size = refit(coarse, _as_broad(coarse, start, radius, settings))
    small, large = fit_requests([usual, broad_size], settings)
    return better_of(small, large, large.objective < small.objective)


def _as_broad(coarse: Stamp, start: Array, radius: float, settings: FitSettings) -> BlendFit:
    """Return a round disk with a half-light radius half that of the broad light, and its bulge."""
    theta = np.zeros((1, PARAMETERS))
    theta[:, POSITION] = start
    theta[:, LOG_RADII] = np.log(0.5 * radius * coarse.pixel_scale)
    theta[:, BULGE_LOG_RADIUS] += settings.priors.log_ratio
    return without_sources(coarse).add(theta, compact=False)


def _regions(
    broad: FloatArray, center: tuple[int, int], config: BodyConfig
) -> tuple[BoolArray, BoolArray]:
    """Return where ``(y, x)`` broad light is that of the galaxy at a pixel (y, x), or of others.

    Between it and others there is less light: a good part less where they touch.
    """
    lit = broad > config.min_brightness
    peaks, _ = ndimage.label(broad > config.separate_part * broad[center])
    basins = watershed(-broad, peaks, mask=lit)
    own = basins == basins[center]
    return own, np.asarray(lit & ~own)


def _bright_neighbors(stamp: Stamp, light: FloatArray, center: Array, config: BodyConfig) -> int:
    """Return how many peaks on a body have, as points, a good part of its light.

    A knot of a spiral has less than a hundredth of it; a member of a cluster, or a star, has more.
    """
    on_body = (light * np.sqrt(stamp.weight)).max(0) > 1
    left = smoothed_stamp((stamp.image - light).sum(0), stamp.width)
    points = 4 * np.pi * stamp.width**2 * left
    peaks = points == ndimage.maximum_filter(points, 2 * round(2 * stamp.width) + 1)
    bright = points > config.neighbor_part * light.sum()
    return int((peaks & bright & on_body & ~_is_center(stamp, center, config)).sum())


def broad_light(stamp: Stamp, config: BodyConfig) -> FloatArray | None:
    """Return the significance ``(y, x)`` of a pixel of what is broad; None if little of it is.

    The median over squares far larger than the PSF: stars and small galaxies are not in it.
    """
    side = round(config.median_side * stamp.width / config.square)
    rows, columns = (n // config.square for n in stamp.image.shape[1:])
    if min(rows, columns) < 2 * side:
        return None
    signal = _signal(stamp)
    inner = signal[: rows * config.square, : columns * config.square]
    binned = inner.reshape(rows, config.square, columns, config.square).mean((1, 3))
    broad = ndimage.median_filter(binned, side, mode="constant")
    lit = broad > config.min_brightness
    if lit.sum() * config.square**2 < np.pi * (config.min_radius * stamp.width) ** 2:
        return None
    whole = np.pad(
        broad.repeat(config.square, 0).repeat(config.square, 1),
        [(0, n - m) for n, m in zip(signal.shape, inner.shape, strict=True)],
    )
    return np.asarray(ndimage.uniform_filter(whole, 2 * config.square), dtype=np.float32)


def roughness(
    stamp: Stamp, light: FloatArray, weight: FloatArray, config: BodyConfig
) -> FloatArray | None:
    """Return which part ``(y, x)`` of a body's light within a PSF is structure; None if unknown.

    Parameters
    ----------
    light
        ``(bands, y, x)`` of the body.
    weight
        The same shape; 0 where something else stands out.
    """
    own, rest = matched_filters([light, stamp.image - light], weight, stamp.width, smoothed_stamp)
    body = own > config.min_significance
    if body.sum() < config.rings * 4 * np.pi * stamp.width**2:
        return None
    level = np.log(own[body])
    edges = np.quantile(level, np.linspace(0, 1, config.rings + 1))
    ring = np.clip(np.searchsorted(edges, level) - 1, 0, config.rings - 1)
    # Only what is brighter than the body can be taken for a source.
    share, noise = np.maximum(rest[body], 0) / own[body], 1 / own[body]
    found = [
        np.quantile(share[ring == i], ONE_SIGMA) ** 2 - np.median(noise[ring == i]) ** 2
        for i in range(config.rings)
    ]
    middle = (edges[1:] + edges[:-1]) / 2
    part = np.sqrt(np.maximum(found, 0))
    return np.asarray(np.interp(np.log(np.maximum(own, 1.0)), middle, part), dtype=np.float32)


def _without(stamp: Stamp, light: FloatArray, part: FloatArray) -> Stamp:
    """Return the stamp without a body's light, of which a part ``(y, x)`` is noise.

    The structure within a PSF is as one, and alike in all bands, but pixels and bands count as
    independent: each has so much more of it.
    """
    together = 4 * np.pi * stamp.width**2 * len(light)
    error = part**2 * together * light**2
    weight = np.asarray(stamp.weight / (1 + stamp.weight * error), dtype=np.float32)
    image = stamp.image - light
    significance = matched_filter(image, weight, stamp.width, smoothed_stamp)
    rest = replace(stamp, image=image, weight=weight, significance=significance)
    rest.remember(mixture=stamp.mixture)
    return rest


def _stands_out(stamp: Stamp, broad: FloatArray, center: Array, config: BodyConfig) -> BoolArray:
    """Tell which pixels ``(y, x)`` hold far more light than what is broad, but for its center."""
    bright = _signal(stamp) > config.standing_out * broad + config.standing_out_sigma
    bright = ndimage.binary_dilation(bright, iterations=round(stamp.width))
    return np.asarray(bright & ~_is_center(stamp, center, config))


def _coarse(stamp: Stamp, center: Array, weight: FloatArray, config: BodyConfig) -> Stamp:
    """Return a stamp of squares of pixels, but about a center, with other weights."""
    pixels, starts = squares(weight, ~_is_center(stamp, center, config), config.square)
    coarse = replace(stamp, weight=weight, pixels=pixels, starts=starts)
    coarse.remember(mixture=stamp.mixture)
    return coarse


def _signal(stamp: Stamp) -> FloatArray:
    """Return the significance ``(y, x)`` of each pixel, all bands together."""
    weight = stamp.weight.sum(0)
    return np.asarray((stamp.weight * stamp.image).sum(0) / np.sqrt(np.maximum(weight, 1e-12)))


def _is_center(stamp: Stamp, center: Array, config: BodyConfig) -> BoolArray:
    """Tell which pixels ``(y, x)`` are so near to a body's center that they are fitted singly."""
    y, x = np.indices(stamp.image.shape[1:])
    radius = config.center_radius * stamp.width
    return np.asarray(np.hypot(x - center[0], y - center[1]) < radius)


def with_bodies(bodies: Bodies, others: BlendFit) -> BlendFit:
    """Return bodies and what lies on them as one fit, whose χ² is the latter's."""
    own = [body.fit for body in bodies.bodies]
    return replace(
        join([*own, others] if len(others.theta) else own),
        chi2=others.chi2,
        converged=others.converged and all(fit.converged for fit in own),
        work=others.work + sum(fit.work for fit in own),
        limited=others.limited,
    )
