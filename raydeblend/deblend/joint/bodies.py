"""Bodies of large galaxies, which are fitted before what lies on them.

Of a galaxy of a hundred pixels the peaks are arms, knots and noise on them, and each would take its
share of the light.  So the smooth body is fitted first, to squares of pixels and without what
stands out of it, and taken off; how far the light departs from a smooth profile is measured, and
counts as noise: what lies on the body is a source if it stands out from that too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

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
from raydeblend.deblend.joint.search import first_peaks
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.stamp import Stamp, squares
from raydeblend.deblend.peaks import DETECT
from raydeblend.detect.footprints import matched_filter, matched_filters
from raydeblend.detect.smoothing import smoothed_stamp
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
    """A large galaxy's smooth light, and the stamp without it.

    Attributes
    ----------
    fit, patch
        The one source, and its light.
    rest
        The stamp without that light; what structure the body has is part of the noise.
    structure
        ``(n, 2)`` peaks of the stamp on the body; those at which no source is found are its
        structure.
    """

    fit: BlendFit
    patch: Patch
    rest: Stamp
    structure: Array

    def again(self, others: list[Patch], settings: FitSettings) -> tuple[BlendFit, Patch]:
        """Return the body fitted again without the light of what was found on it."""
        shown = self.rest.image.copy()
        self.patch.add_to(shown)
        for other in others:
            other.take_from(shown)
        config = settings.config.bodies
        own = _coarse(self.rest.showing(shown), self.fit.xy[0], self.rest.weight, config)
        request = FitRequest(own, self.fit.xy.copy(), self.fit.compact, self.fit)
        (fit,) = fit_requests([request], settings)
        patch = draw(self.rest, fit, 0, settings.config.blocks)
        fit = _with_all_light(fit, patch, shown, self.rest.weight)
        return fit, draw(self.rest, fit, 0, settings.config.blocks)


def find_body(stamp: Stamp, settings: FitSettings) -> Body | None:
    """Return the largest body of a stamp; None where there is no large galaxy."""
    config = settings.config.bodies
    broad = broad_light(stamp, config)
    if broad is None:
        return None
    y, x = np.unravel_index(np.argmax(broad), broad.shape)
    start = np.array([[x, y]], dtype=np.float64)
    outstanding = _stands_out(stamp, broad, start[0], config)
    weight = np.where(outstanding, np.float32(0), stamp.weight)
    coarse = _coarse(stamp, start[0], weight, config)
    fit = _best_fit(coarse, start, broad, settings)
    radius = np.exp(fit.theta[0, LOG_RADIUS]) / stamp.pixel_scale
    if radius < config.min_radius * stamp.width:
        return None
    patch = draw(stamp, fit, 0, settings.config.blocks)
    (light,) = images([patch], stamp.image.shape)
    if _bright_neighbors(stamp, light, outstanding, config) > config.most_neighbors:
        return None
    part = roughness(stamp, light, weight, config)
    if part is None or not _is_structured(part, config):
        return None
    return Body(fit, patch, _without(stamp, light, part), _peaks_on(stamp, light))


def _with_all_light(fit: BlendFit, patch: Patch, shown: FloatArray, weight: FloatArray) -> BlendFit:
    """Return a body's fit, its flux scaled so that its light is as much as what is shown there.

    What a smooth profile does not follow, such as arms, is light of the galaxy all the same.

    Parameters
    ----------
    shown
        ``(bands, y, x)`` the image without the other sources.
    """
    part = np.where(patch.lit & (weight[:, *patch.box.slices] > 0), 1.0, 0.0)
    model, seen = ((part * each).sum((1, 2)) for each in (patch.light, shown[:, *patch.box.slices]))
    known = (model > 0) & (seen > 0)
    factor = np.where(known, seen, 1.0) / np.where(known, model, 1.0)
    flux_cov = fit.flux_cov * (factor[:, None] * factor)[..., None]
    return replace(fit, flux=fit.flux * factor[:, None, None], flux_cov=flux_cov)


def _best_fit(coarse: Stamp, start: Array, broad: FloatArray, settings: FitSettings) -> BlendFit:
    """Return the better of two fits of a body, from a usual size and from that of the broad light.

    From a tenth of its size a body may end as a steep profile, far from the minimum.
    """
    usual = FitRequest(coarse, start, np.zeros(1, dtype=bool))
    broad_size = refit(coarse, _as_broad(coarse, start, broad, settings))
    small, large = fit_requests([usual, broad_size], settings)
    return better_of(small, large, large.objective < small.objective)


def _as_broad(coarse: Stamp, start: Array, broad: FloatArray, settings: FitSettings) -> BlendFit:
    """Return a round disk with a half-light radius half that of the broad light, and its bulge."""
    area = float((broad > settings.config.bodies.min_brightness).sum())
    theta = np.zeros((1, PARAMETERS))
    theta[:, POSITION] = start
    theta[:, LOG_RADII] = np.log(0.5 * np.sqrt(area / np.pi) * coarse.pixel_scale)
    theta[:, BULGE_LOG_RADIUS] += settings.priors.log_ratio
    return without_sources(coarse).add(theta, compact=False)


def _bright_neighbors(
    stamp: Stamp, light: FloatArray, outstanding: BoolArray, config: BodyConfig
) -> int:
    """Return how many regions that stand out of a body hold a good part of its light.

    A knot of a spiral has less than a hundredth of it; a member of a cluster, or a star, has more.
    """
    on_body = (light * np.sqrt(stamp.weight)).max(0) > 1
    regions, count = ndimage.label(outstanding & on_body)
    excess = ndimage.sum_labels((stamp.image - light).sum(0), regions, np.arange(count) + 1)
    return int((excess > config.neighbor_part * light.sum()).sum())


def _is_structured(part: FloatArray, config: BodyConfig) -> bool:
    """Tell whether a body of such `roughness` ``(y, x)`` is neither smooth nor several galaxies."""
    return bool(part.max() > config.min_roughness and np.median(part) < config.max_roughness)


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


def _peaks_on(stamp: Stamp, light: FloatArray) -> Array:
    """Return the peaks ``(n, 2)`` of a stamp where a body is detected by itself."""
    peaks = first_peaks(stamp)
    body = matched_filter(light, stamp.weight, stamp.width, smoothed_stamp) > DETECT.threshold
    y, x = np.floor(peaks.T[::-1] + 0.5).astype(int)
    return np.asarray(peaks[body[y.clip(0, len(body) - 1), x.clip(0, body.shape[1] - 1)]])


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


def with_body(body: BlendFit, others: BlendFit) -> BlendFit:
    """Return a body and what lies on it as one fit, whose χ² is the latter's."""
    both = join([body, others]) if len(others.theta) else body
    return replace(
        both,
        chi2=others.chi2,
        converged=body.converged and others.converged,
        work=body.work + others.work,
        limited=others.limited,
    )
