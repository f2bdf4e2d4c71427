"""Which sources of a fit are structure of a galaxy, an arm or a clump, and not its neighbors.

A galaxy that is no smooth profile is fitted by several sources.  They differ from neighbors in what
a picture shows: they lie within the light of a brighter one, their host, and add little to it, they
have its color, there are several of them, and the fit about them is worse than noise.  A calibrated
logistic model of these features (`calibrate.structure`) says how likely it is, and a source that
probably is structure becomes a part of its host: one galaxy, one row, with all its light.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.calibration import read_calibration, write_calibration
from raydeblend.deblend.joint.blend_fit import BlendFit
from raydeblend.deblend.joint.config import StructureConfig
from raydeblend.deblend.joint.crowds.light import total_light
from raydeblend.deblend.joint.crowds.patches import Patch
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.deblend.logistic import Logistic, probability, read_logistic, write_logistic
from raydeblend.fit.parameters import LOG_INDEX, LOG_RADIUS, SHEAR
from raydeblend.shipped import SHIPPED
from raydeblend.tile import Box

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
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
)
_LEAST_CONTRAST, _MOST_CONTRAST = 0.05, 1e3
BODY_SIGMA, ABOUT_WIDTHS = 3.0, 2.5
"""A host's body is where it is above so many sigma; about a source are so many PSF widths."""
_LEAST_PART, _LEAST_RADIUS, _LEAST_MISFIT, _LEAST_DISTANCE = 1e-3, 0.05, 2e-3, 0.02
_LEAST_LIGHT = 1e-12
_MOST_SHEAR = 0.95


@dataclass(frozen=True)
class StructureModel:
    """The calibration, with where it comes from and the hash of its file."""

    logistic: Logistic
    card: Mapping[str, Any]
    sha256: str = ""


@cache
def shipped_structure() -> StructureModel:
    """Return the calibration that is shipped."""
    return read_structure(SHIPPED / "structure.json")


def read_structure(path: str | Path) -> StructureModel:
    """Read a calibration.

    Raises
    ------
    ConfigError
        If there is none or it is damaged.
    """

    def make(content: Mapping[str, Any], sha256: str) -> StructureModel:
        if content["features"] != list(FEATURES):
            raise ValueError("it is of other features")
        return StructureModel(read_logistic(content["logistic"]), content["card"], sha256)

    return read_calibration(path, "structure", make)


def write_structure(path: str, model: StructureModel) -> None:
    """Write a calibration as JSON."""
    content = {
        "features": list(FEATURES),
        "logistic": write_logistic(model.logistic),
        "card": dict(model.card),
    }
    write_calibration(path, content)


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


def galaxies_of(
    stamp: Stamp,
    fit: BlendFit,
    patches: Sequence[Patch],
    model: Logistic,
    config: StructureConfig,
) -> Indices:
    """Return of which galaxy, by its brightest source, each source ``(k,)`` is a part.

    `patches` are the light of each, in units of the noise.
    """
    galaxy = np.arange(len(fit.theta))
    seen = attachments(stamp, fit, patches, config, config.max_contrast)
    if not len(seen.source):
        return galaxy
    part = is_structure(seen.features, model, config)
    galaxy[seen.source[part]] = seen.host[part]
    # A host may itself be a part of a brighter one.
    for _ in galaxy:
        galaxy = galaxy[galaxy]
    return galaxy


def is_structure(features: Array, model: Logistic, config: StructureConfig) -> NDArray[np.bool_]:
    """Tell which sources ``(m,)`` are taken for structure, by their features ``(m, f)``."""
    likely = probability(model.logit(features)) > config.min_probability
    return np.asarray(likely & (features[:, 0] < np.log(config.max_contrast)))


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
    near = (host >= 0) & (contrast < config.attached_contrast)
    attached = np.bincount(host[near], minlength=len(light))
    source = np.flatnonzero((host >= 0) & (contrast < most_contrast))
    if not len(source):
        return Attachments(source, host[source], np.zeros((0, len(FEATURES))))
    host, contrast = host[source], contrast[source]
    total = total_light(patches, stamp.image.shape)
    radius = np.exp(fit.theta[:, LOG_RADIUS])
    offset = fit.xy[source] - fit.xy[host]
    inside = _isophote(offset, fit.theta[host, SHEAR]) * stamp.pixel_scale
    square = np.array([_overlap(stamp, patch, patch) for patch in patches])
    alone = np.log(np.maximum(square, _LEAST_LIGHT)) / 2
    others = _under(stamp, patches, total) - square
    about = {i: _misfit(stamp, total, _body(stamp, patches[i])) for i in set(host.tolist())}
    columns = [
        np.log(contrast),
        np.log1p(_color_chi2(fit, source, host, config.color_error)),
        np.log(np.maximum(light[source] / light[host], _LEAST_PART)),
        np.log(np.maximum(inside / np.maximum(radius[host], _LEAST_RADIUS), _LEAST_DISTANCE)),
        np.log(np.maximum(np.hypot(*offset.T) / stamp.width, _LEAST_DISTANCE)),
        np.log(fit.snr[source]),
        alone[source],
        np.log(radius[source]),
        np.log(fit.snr[host]),
        fit.theta[host, LOG_INDEX],
        np.array([about[i] for i in host.tolist()]),
        np.array([_misfit(stamp, total, _about(stamp, xy)) for xy in fit.xy[source]]),
        attached[host],
        alone[host],
        np.log(radius[host]),
        np.log(_ratio(square, others)[source]),
    ]
    features = np.array(columns, dtype=np.float64).T
    return Attachments(source, host, np.nan_to_num(features))


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


def _color_chi2(fit: BlendFit, source: Indices, host: Indices, floor: float) -> Array:
    """Return χ² ``(m,)`` of the sources' colors about their hosts', with an error of `floor`."""
    flux = np.maximum(fit.total, 1e-3)
    error = fit.flux_err[:, source] / flux[:, source]
    ratio = np.log(flux[:, source]) - np.log(flux[:, host])
    weight = 1 / np.maximum(error, 1e-6) ** 2
    mean = (weight * ratio).sum(0) / weight.sum(0)
    return np.asarray(((ratio - mean) ** 2 / (error**2 + floor**2)).sum(0))


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
    chi2 = float((weight * (stamp.image[at] - light) ** 2).sum(dtype=np.float64))
    beyond = max(chi2 - n - np.sqrt(2 * n), 0)
    whole = float((weight * light**2).sum(dtype=np.float64))
    return float(np.log(max(np.sqrt(beyond / max(whole, 1e-9)), _LEAST_MISFIT)))
