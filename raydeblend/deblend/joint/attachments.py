"""What is seen of the sources of a fit in the light of brighter ones, their hosts.

A picture shows how a galaxy's structure differs from its neighbors: arms and clumps lie within
the light of their host and add little to it, have its color, are several, often on both sides of
it, and lie along the circle about it; there is no valley between them and its center; and the fit
about them is worse than noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from raydeblend.deblend.joint.blend_fit import BlendFit
from raydeblend.deblend.joint.config import StructureConfig
from raydeblend.deblend.joint.crowds.light import total_light
from raydeblend.deblend.joint.crowds.patches import Patch
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.parameters import LOG_INDEX, LOG_RADIUS, SHEAR
from raydeblend.tile import Box

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
Bools = NDArray[np.bool_]
Pixels = tuple[Indices, Indices]
"""Rows and columns."""

FEATURES = (
    "ln contrast",
    "ln of 1 + chi2 of the color",
    "ln of the part of the host's flux",
    "ln distance within the host, in its radii",
    "ln distance, in PSF widths",
    "ln signal to noise",
    "ln signal to noise, were it alone",
    "ln radius",
    "ln signal to noise of the host",
    "ln Sérsic index of the host's disk",
    "ln misfit of the host",
    "ln misfit",
    "sources attached to the host",
    "ln signal to noise of the host, were it alone",
    "ln radius of the host",
    "ln contrast to all others",
    "ln of the part of the host's flux that all attached to it have",
    "mirrored",
    "shear along the circle about the host",
    "ln radius over the host's",
    "ln radius, in PSF widths",
    "ln Sérsic index of its disk",
    "ln contrast of the others attached to the host, on the average",
    "ln of the least light on the way to the host, over that at the source",
    "part of what the host alone leaves of its body that the fit leaves too",
)
_LEAST_CONTRAST, _MOST_CONTRAST = 0.05, 1e3
BODY_SIGMA, ABOUT_WIDTHS = 3.0, 2.5
"""Sigma above which a host's body lies; PSF widths that count as around a source."""
WAY_POINTS = 21
"""At which the light between a source and its host is looked at."""
_LEAST_PART, _LEAST_RADIUS, _LEAST_MISFIT, _LEAST_DISTANCE = 1e-3, 0.05, 2e-3, 0.02
_LEAST_LIGHT = 1e-12
_MOST_SHEAR = 0.95
_MIRRORED = (-1.0, 2.0)
_LEFT, _LEAST_EXCESS = (-1.0, 2.0), 1.0


@dataclass(frozen=True)
class Attachments:
    """What is seen of the sources of a blend that have a brighter one.

    Attributes
    ----------
    source, host
        ``(m,)`` which source of the fit, and the brighter one whose light it lies in most.
    features
        ``(m, f)``, see `FEATURES`.
    """

    source: Indices
    host: Indices
    features: Array


def attachments(
    stamp: Stamp,
    fit: BlendFit,
    patches: Sequence[Patch],
    config: StructureConfig,
    most_contrast: float = np.inf,
) -> Attachments:
    """Look at each source of less than a contrast in the light of its host; see `galaxies_of`."""
    light = fit.total.sum(0)
    contrast, host = _contrasts(stamp, patches, light)
    company = _company(contrast, host, light, config.attached_contrast)
    source = np.flatnonzero((host >= 0) & (contrast < most_contrast))
    if not len(source):
        return Attachments(source, host[source], np.zeros((0, len(FEATURES))))
    pairs = source, host[source]
    color_chi2 = _color_chi2(fit, *pairs, config.color_error)
    columns = _columns(stamp, fit, patches, pairs, contrast[source], color_chi2, company)
    return Attachments(*pairs, np.nan_to_num(np.array(columns, dtype=np.float64).T))


@dataclass(frozen=True)
class _Company:
    """What is attached to hosts.

    Attributes
    ----------
    number, light
        ``(k,)`` sources that are attached to each, and their light.
    contrast
        ``(k,)`` mean ln contrast of the others that are attached to a source's host.
    """

    number: Indices
    light: Array
    contrast: Array


def _company(contrast: Array, host: Indices, light: Array, most: float) -> _Company:
    """Return what is attached with a contrast of less than `most`."""
    near = (host >= 0) & (contrast < most)
    return _Company(
        np.bincount(host[near], minlength=len(light)),
        np.bincount(host[near], light[near], minlength=len(light)).astype(np.float64),
        _mean_of_others(np.log(contrast), host, near, np.log(most)),
    )


def _columns(
    stamp: Stamp,
    fit: BlendFit,
    patches: Sequence[Patch],
    pairs: tuple[Indices, Indices],
    contrast: Array,
    color_chi2: Array,
    company: _Company,
) -> list[Array]:
    """Return the columns ``(m,)`` of `FEATURES`, in their order, of pairs of source and host."""
    source, host = pairs
    light, radius = fit.total.sum(0), np.exp(fit.theta[:, LOG_RADIUS])
    total = total_light(patches, stamp.image.shape)
    offset = fit.xy[source] - fit.xy[host]
    inside = _isophote(offset, fit.theta[host, SHEAR]) * stamp.pixel_scale
    square = np.array([_overlap(stamp, patch, patch) for patch in patches])
    alone = np.log(np.maximum(square, _LEAST_LIGHT)) / 2
    others = _under(stamp, patches, total) - square
    misfit, left = _of_hosts(stamp, total, patches, host)
    return [
        np.log(contrast),
        np.log1p(color_chi2),
        np.log(np.maximum(light[source] / light[host], _LEAST_PART)),
        np.log(np.maximum(inside / np.maximum(radius[host], _LEAST_RADIUS), _LEAST_DISTANCE)),
        np.log(np.maximum(np.hypot(*offset.T) / stamp.width, _LEAST_DISTANCE)),
        np.log(fit.snr[source]),
        alone[source],
        np.log(radius[source]),
        np.log(fit.snr[host]),
        fit.theta[host, LOG_INDEX],
        misfit,
        np.array([_misfit(stamp, total, _about(stamp, xy)) for xy in fit.xy[source]]),
        company.number[host],
        alone[host],
        np.log(radius[host]),
        np.log(_ratio(square, others)[source]),
        np.log(np.maximum(company.light[host] / light[host], _LEAST_PART)),
        np.array([_mirrored(stamp, patches, fit.xy, *pair) for pair in np.transpose(pairs)]),
        _along_circle(offset, fit.theta[source, SHEAR]),
        np.log(radius[source] / np.maximum(radius[host], _LEAST_RADIUS)),
        np.log(radius[source] / (stamp.width * stamp.pixel_scale)),
        fit.theta[source, LOG_INDEX],
        company.contrast[source],
        _valleys(total, fit.xy[source], fit.xy[host]),
        left,
    ]


def _of_hosts(
    stamp: Stamp, total: Array, patches: Sequence[Patch], host: Indices
) -> tuple[Array, Array]:
    """Return `_misfit` of the body of each host ``(m,)``, and what is `_left` of it."""
    each, which = np.unique(host, return_inverse=True)
    bodies = [(patches[i], _body(stamp, patches[i])) for i in each.tolist()]
    misfit = np.array([_misfit(stamp, total, body) for _, body in bodies])
    left = np.array([_left(stamp, total, patch, body) for patch, body in bodies])
    return misfit[which], left[which]


def _contrasts(stamp: Stamp, patches: Sequence[Patch], light: Array) -> tuple[Array, Indices]:
    """Return each source's contrast ``(k,)`` to its host, and the host; -1 of the brightest.

    The contrast is Σ w I² / Σ w I H, with H the host's light: what a matched filter of the source's
    own profile sees of the source over what it sees of the host.
    """
    k = len(light)
    contrast, host = np.full(k, _MOST_CONTRAST), np.full(k, -1)
    edges = np.array([(p.box.y0, p.box.x0, -p.box.y1, -p.box.x1) for p in patches])
    for source in range(k):
        brighter = light > light[source]
        if not brighter.any():
            continue
        # Most pairs of a crowd are far apart: asked one by one they took longer than the fits.
        meets = brighter & (edges < -np.roll(edges[source], 2)).all(1)
        under = np.where(brighter, 0.0, -np.inf)
        for i in np.flatnonzero(meets).tolist():
            under[i] = _overlap(stamp, patches[source], patches[i])
        best = host[source] = int(np.argmax(under))
        square = _overlap(stamp, patches[source], patches[source])
        contrast[source] = _ratio(square, under[best])
    return contrast, host


def _mean_of_others(values: Array, host: Indices, attached: Bools, none: float) -> Array:
    """Return the mean ``(k,)`` of the others that are attached to a source's host, or `none`."""
    rows = np.flatnonzero(attached)
    count = np.bincount(host[rows], minlength=len(host))[host] - attached
    rest = np.bincount(host[rows], values[rows], minlength=len(host))[host] - attached * values
    return np.where(count > 0, rest / np.maximum(count, 1), none)


def _ratio(square: Array | float, under: Array | float) -> Array:
    """Return Σ w I² / Σ w I H within bounds."""
    return np.clip(square / np.maximum(under, _LEAST_LIGHT), _LEAST_CONTRAST, _MOST_CONTRAST)


def _under(stamp: Stamp, patches: Sequence[Patch], total: Array) -> Array:
    """Return Σ w I T ``(k,)`` of each source, with T the light ``(bands, y, x)`` of all."""
    windows = [(slice(None), *patch.box.slices) for patch in patches]
    return np.array(
        [
            np.einsum("byx,byx,byx->", stamp.weight[at], patch.light, total[at], dtype=np.float64)
            for at, patch in zip(windows, patches, strict=True)
        ]
    )


def _overlap(stamp: Stamp, one: Patch, other: Patch) -> float:
    """Return Σ w I_1 I_2 over bands and the pixels that both reach."""
    common = one.box.clip(other.box)
    if common.y1 <= common.y0 or common.x1 <= common.x0:
        return 0.0
    a, b = (
        patch.light[:, *common.shift(-patch.box.y0, -patch.box.x0).slices] for patch in (one, other)
    )
    weight = stamp.weight[:, *common.slices]
    return float(np.einsum("byx,byx,byx->", a, b, weight, dtype=np.float64))


def _isophote(offset: Array, shear: Array) -> Array:
    """Return the mean radius ``(m,)`` of the ellipse of a shear ``(m, 2)`` through an offset.

    In the unit of `offset` ``(m, 2)`` (x, y), from the center.
    """
    size = np.minimum(np.hypot(*shear.T), _MOST_SHEAR)
    angle, axis_ratio = 0.5 * np.arctan2(shear[:, 1], shear[:, 0]), (1 - size) / (1 + size)
    x, y = offset.T
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    return np.asarray(np.hypot(along * np.sqrt(axis_ratio), across / np.sqrt(axis_ratio)))


def _along_circle(offset: Array, shear: Array) -> Array:
    """Return the part of shears ``(m, 2)`` that is tangential about the point `offset` away."""
    angle = 2 * np.arctan2(offset[:, 1], offset[:, 0])
    return np.asarray(-(shear[:, 0] * np.cos(angle) + shear[:, 1] * np.sin(angle)))


def _mirrored(stamp: Stamp, patches: Sequence[Patch], xy: Array, source: int, host: int) -> float:
    """Return how much of a source's light is also on the other side of its host.

    That is the flux, in units of its own, of its turned image in what the host's model leaves.
    """
    patch, (x, y) = patches[source], xy[host]
    height, width = patch.light.shape[1:]
    y0, x0 = round(2 * y - patch.box.y1 + 1), round(2 * x - patch.box.x1 + 1)
    common = Box(y0, x0, y0 + height, x0 + width).clip(Box(0, 0, *stamp.image.shape[1:]))
    if common.y1 <= common.y0 or common.x1 <= common.x0:
        return 0.0
    turned = patch.light[:, ::-1, ::-1][:, *common.shift(-y0, -x0).slices]
    smooth = np.zeros(turned.shape)
    patches[host].add_to(smooth, (common.y0, common.x0))
    at = (slice(None), *common.slices)
    weight = stamp.weight[at]
    seen = float((weight * turned * (stamp.image[at] - smooth)).sum(dtype=np.float64))
    square = float((weight * turned**2).sum(dtype=np.float64))
    return float(np.clip(seen / max(square, _LEAST_LIGHT), *_MIRRORED))


def _color_chi2(fit: BlendFit, source: Indices, host: Indices, floor: float) -> Array:
    """Return χ² ``(m,)`` of the sources' colors about their hosts', with an error of `floor`."""
    flux = np.maximum(fit.total, 1e-3)
    error = fit.flux_err[:, source] / flux[:, source]
    ratio = np.log(flux[:, source]) - np.log(flux[:, host])
    weight = 1 / np.maximum(error, 1e-6) ** 2
    mean = (weight * ratio).sum(0) / weight.sum(0)
    return np.asarray(((ratio - mean) ** 2 / (error**2 + floor**2)).sum(0))


def _valleys(total: Array, source: Array, host: Array) -> Array:
    """Return ln of the least light on the way to a host, over that at the source, ``(m,)``.

    `total` ``(bands, y, x)`` is the light of all sources; positions are ``(m, 2)``.
    """
    way = source[..., None] + (host - source)[..., None] * np.linspace(0, 1, WAY_POINTS)
    x, y = way.swapaxes(0, 1)
    light = ndimage.map_coordinates(total.sum(0), [y, x], order=1, mode="nearest")
    light = np.maximum(light, _LEAST_LIGHT)
    return np.asarray(np.log(light.min(1) / light[:, 0]))


def _body(stamp: Stamp, patch: Patch) -> Pixels:
    """Return the pixels in which a source is above the noise."""
    window = patch.box.slices
    bright = (patch.light * np.sqrt(stamp.weight[:, *window])).max(0) > BODY_SIGMA
    rows, columns = np.nonzero(bright)
    return rows + patch.box.y0, columns + patch.box.x0


def _about(stamp: Stamp, xy: Array) -> Pixels:
    """Return the pixels about a position."""
    radius = ABOUT_WIDTHS * stamp.width
    height, width = stamp.image.shape[1:]
    x, y = xy
    box = Box(
        int(np.floor(y - radius)), int(np.floor(x - radius)),
        int(np.ceil(y + radius)) + 1, int(np.ceil(x + radius)) + 1,
    ).clip(Box(0, 0, height, width))  # fmt: skip
    rows, columns = np.mgrid[box.slices]
    near = np.hypot(columns - x, rows - y) < radius
    return rows[near], columns[near]


def _misfit(stamp: Stamp, total: Array, pixels: Pixels) -> float:
    """Return ln of the part of the light in some pixels that the residual has beyond noise.

    `total` ``(bands, y, x)`` is the light of all sources.
    """
    at = (slice(None), *pixels)
    weight, light = stamp.weight[at], total[at]
    n = int((weight > 0).sum())
    beyond = max(_excess(stamp, light, pixels) - np.sqrt(2 * n), 0)
    whole = float((weight * light**2).sum(dtype=np.float64))
    return float(np.log(max(np.sqrt(beyond / max(whole, 1e-9)), _LEAST_MISFIT)))


def _left(stamp: Stamp, total: Array, host: Patch, body: Pixels) -> float:
    """Return the part of what a host alone leaves in the pixels of its body that all sources leave.

    Both are χ² beyond noise; `total` ``(bands, y, x)`` is the light of all sources.
    """
    rows, columns = body
    alone = host.light[:, rows - host.box.y0, columns - host.box.x0]
    left = _excess(stamp, total[:, rows, columns], body)
    return float(np.clip(left / max(_excess(stamp, alone, body), _LEAST_EXCESS), *_LEFT))


def _excess(stamp: Stamp, light: NDArray[np.floating], pixels: Pixels) -> float:
    """Return χ² of some pixels beyond that of noise if they have the light ``(bands, n)``."""
    at = (slice(None), *pixels)
    weight = stamp.weight[at]
    chi2 = (weight * (stamp.image[at] - light) ** 2).sum(dtype=np.float64)
    return float(chi2 - (weight > 0).sum())
