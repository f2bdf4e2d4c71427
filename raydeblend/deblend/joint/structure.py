"""Which sources of a fit are structure of a galaxy, an arm or a clump, and not its neighbors.

A galaxy that is no smooth profile is fitted by several sources.  They differ from neighbors in what
a picture shows: they lie within the light of a brighter one, their host, and add little to it, they
have its color, there are several of them, and the fit about them is worse than noise.  A calibrated
logistic model of these features (`calibrate.structure`) says how likely it is, and a source that
probably is structure becomes a part of its host: one galaxy, one row, with all its light.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydeblend import storage
from raydeblend.deblend.joint.blend_fit import BlendFit
from raydeblend.deblend.joint.config import StructureConfig
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.deblend.unrecognized.model import (
    Logistic,
    probability,
    read_logistic,
    write_logistic,
)
from raydeblend.errors import ConfigError
from raydeblend.fit.parameters import LOG_RADIUS
from raydeblend.networks.weights import SHIPPED
from raydeblend.tile import FloatArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

FEATURES = (
    "ln contrast",
    "ln of 1 + chi2 of the color",
    "ln of the part of the host's flux",
    "ln distance, in radii of the host",
    "ln signal to noise",
    "ln radius",
    "ln signal to noise of the host",
    "ln misfit of the host",
    "ln misfit",
    "sources attached to the host",
)
_LEAST_CONTRAST, _MOST_CONTRAST = 0.05, 1e3
_LEAST_PART, _LEAST_RADIUS, _LEAST_MISFIT = 1e-3, 0.05, 2e-3


@dataclass(frozen=True)
class StructureModel:
    """The calibration, with where it comes from and the hash of its file."""

    logistic: Logistic
    card: Mapping[str, Any]
    sha256: str = ""


@cache
def shipped_structure() -> StructureModel:
    """Return the calibration that is shipped."""
    return read_structure(str(SHIPPED / "structure.json"))


def read_structure(path: str | Path) -> StructureModel:
    """Read a calibration.

    Raises
    ------
    ConfigError
        If there is none or it is damaged.
    """
    try:
        data = storage.read_bytes(str(path))
        content = json.loads(data)
        if content["features"] != list(FEATURES):
            raise ValueError("it is of other features")
        logistic = read_logistic(content["logistic"])
        return StructureModel(logistic, content["card"], hashlib.sha256(data).hexdigest())
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {path}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a calibration of structure: {error}") from error


def write_structure(path: str, model: StructureModel) -> None:
    """Write a calibration as JSON."""
    content = {
        "features": list(FEATURES),
        "logistic": write_logistic(model.logistic),
        "card": dict(model.card),
    }
    storage.write_bytes(path, (json.dumps(content, indent=1) + "\n").encode())


@dataclass(frozen=True)
class Attachments:
    """What is seen of the sources of a blend that have a brighter one.

    Attributes
    ----------
    source, host
        ``(m,)`` which source of the fit, and the brighter one whose light it lies in most.
    features
        ``(m, 10)``, see `FEATURES`.
    """

    source: Indices
    host: Indices
    features: Array


def galaxies_of(
    stamp: Stamp, fit: BlendFit, models: FloatArray, model: Logistic, config: StructureConfig
) -> Indices:
    """Return of which galaxy, by its brightest source, each source ``(k,)`` is a part.

    Parameters
    ----------
    models
        ``(k, bands, y, x)`` in units of the noise.
    """
    galaxy = np.arange(len(fit.theta))
    seen = attachments(stamp, fit, models, config)
    likely = probability(model.logit(seen.features)) > config.min_probability
    near = seen.features[:, 0] < np.log(config.max_contrast)
    galaxy[seen.source[likely & near]] = seen.host[likely & near]
    # A host may itself be a part of a brighter one.
    for _ in galaxy:
        galaxy = galaxy[galaxy]
    return galaxy


def attachments(
    stamp: Stamp, fit: BlendFit, models: FloatArray, config: StructureConfig
) -> Attachments:
    """Look at each source in the light of its host; see `galaxies_of`."""
    light = fit.total.sum(0)
    contrast, host = _contrasts(stamp, models, light)
    source = np.flatnonzero(host >= 0)
    host, contrast = host[source], contrast[source]
    attached = np.bincount(host[contrast < config.attached_contrast], minlength=len(light))
    residual = stamp.image - models.sum(0)
    radius = np.exp(fit.theta[:, LOG_RADIUS])
    distance = np.hypot(*(fit.xy[source] - fit.xy[host]).T) * stamp.pixel_scale
    about = {i: _misfit(stamp, models, residual, _body(stamp, models[i])) for i in set(host)}
    columns = [
        np.log(contrast),
        np.log1p(_color_chi2(fit, source, host, config.color_error)),
        np.log(np.maximum(light[source] / light[host], _LEAST_PART)),
        np.log(distance / np.maximum(radius[host], _LEAST_RADIUS)),
        np.log(fit.snr[source]),
        np.log(radius[source]),
        np.log(fit.snr[host]),
        np.array([about[i] for i in host]),
        np.array([_misfit(stamp, models, residual, _about(stamp, xy)) for xy in fit.xy[source]]),
        attached[host],
    ]
    features = np.array(columns, dtype=np.float64).reshape(len(FEATURES), len(source)).T
    return Attachments(source, host, np.nan_to_num(features))


def _contrasts(stamp: Stamp, models: FloatArray, light: Array) -> tuple[Array, Indices]:
    """Return each source's contrast ``(k,)`` to its host, and the host; -1 of the brightest.

    The contrast is Σ w I² / Σ w I H, with H the host's light: what a matched filter of the source's
    own profile sees of the source over what it sees of the host.
    """
    k = len(light)
    contrast, host = np.full(k, _MOST_CONTRAST), np.full(k, -1)
    weighted = models * np.sqrt(stamp.weight)
    for source in range(k):
        brighter = np.flatnonzero(light > light[source])
        if not len(brighter):
            continue
        own = weighted[source]
        rows, columns = (np.flatnonzero(own.any((0, axis))) for axis in (2, 1))
        if not len(rows):
            host[source] = brighter[np.argmax(light[brighter])]
            continue
        box = np.s_[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        under = np.array([(weighted[i][box] * own[box]).sum(dtype=np.float64) for i in brighter])
        best = int(np.argmax(under))
        host[source] = brighter[best]
        square = (own.astype(np.float64) ** 2).sum()
        ratio = square / under[best] if under[best] > 0 else _MOST_CONTRAST
        contrast[source] = np.clip(ratio, _LEAST_CONTRAST, _MOST_CONTRAST)
    return contrast, host


def _color_chi2(fit: BlendFit, source: Indices, host: Indices, floor: float) -> Array:
    """Return χ² ``(m,)`` of the sources' colors about their hosts', with an error of `floor`."""
    flux = np.maximum(fit.total, 1e-3)
    error = fit.flux_err[:, source] / flux[:, source]
    ratio = np.log(flux[:, source]) - np.log(flux[:, host])
    weight = 1 / np.maximum(error, 1e-6) ** 2
    mean = (weight * ratio).sum(0) / weight.sum(0)
    return np.asarray(((ratio - mean) ** 2 / (error**2 + floor**2)).sum(0))


def _body(stamp: Stamp, model: FloatArray) -> NDArray[np.bool_]:
    """Return the pixels ``(y, x)`` in which a model is above the noise."""
    return np.asarray((model * np.sqrt(stamp.weight)).max(0) > 3)


def _about(stamp: Stamp, xy: Array) -> NDArray[np.bool_]:
    """Return the pixels ``(y, x)`` about a position."""
    y, x = np.indices(stamp.image.shape[1:])
    return np.asarray(np.hypot(x - xy[0], y - xy[1]) < 2.5 * stamp.width)


def _misfit(
    stamp: Stamp, models: FloatArray, residual: FloatArray, pixels: NDArray[np.bool_]
) -> float:
    """Return ln of the part of the light in some pixels that the residual has beyond noise."""
    weight = stamp.weight[:, pixels]
    n = int((weight > 0).sum())
    beyond = float((weight * residual[:, pixels] ** 2).sum(dtype=np.float64)) - n - np.sqrt(2 * n)
    light = float((weight * models[:, :, pixels].sum(0) ** 2).sum(dtype=np.float64))
    return float(np.log(max(np.sqrt(max(beyond, 0) / max(light, 1e-9)), _LEAST_MISFIT)))
