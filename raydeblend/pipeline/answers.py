"""What a deblender's answer makes of a footprint: its sources, with those that it missed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.sep import classical_models, fill_holes
from raydeblend.fit.result import ARRAYS, Measurements, not_attempted
from raydeblend.flags import Flag
from raydeblend.pipeline.config import FOOTPRINTS
from raydeblend.pipeline.deblended import DeblendedParent
from raydeblend.pipeline.distinct import distinct_models
from raydeblend.tile import Blend, BoolArray, Deblended, FloatArray

JOINT, JOINT_MODEL = "joint", "bulge+disk"
"""Names of the joint deblender's photometry and of its model in the catalog."""
OPTIONAL = ("flux_cov", "r50", "bulge_fraction", "shift", "position_cov", "response", "profile")
VALUES = tuple(name for name in ARRAYS if name not in ("flags", *OPTIONAL))
"""What a deblender that measures its sources must give in `Deblended.extra`."""


def part_of(blend: Blend, result: Deblended, row: int, deblender: str) -> DeblendedParent:
    """Return what a deblender found in one footprint of its batch.

    Detected peaks that its models do not explain are deblended classically from the residual, so
    that a network's miss does not lose a source; so is a whole footprint that it had to give up,
    `limited` and without sources.
    """
    n = int(result.n_sources[row])
    limited = Flag.DEBLEND_LIMITED if _limited(result, row) else Flag(0)
    if limited and not n:
        part = _costing(classical(blend), result, row)
        return replace(part, flags=part.flags | int(Flag.DEBLEND_FALLBACK | limited))
    models, xy, first = distinct_models(blend, result.models[row, :n], result.xy[row, :n])
    more, more_xy = _missed(blend, models, np.concatenate([xy, _parts_xy(result, row)]))
    if not len(models) + len(more):
        failed = _costing(undivided(blend, "none", deblender), result, row)
        return replace(failed, flags=int(Flag.DEBLEND_FAILED))
    measured = _measured(blend, result, row, first)
    if len(more):
        both = np.concatenate([models, more]), np.concatenate([xy, more_xy])
        models, xy, _ = distinct_models(blend, *both)
    single = len(models) == 1 and len(blend.xy) == 1
    quality = "isolated" if single else str(result.quality[row])
    p_blend = result.extra["p_blend"][row] if "p_blend" in result.extra else np.nan
    flags = Flag.LOW_QUALITY if quality == "low" else Flag(0)
    part = DeblendedParent(
        models, xy, quality, deblender, float(p_blend), int(flags | limited), measured
    )
    part = _costing(part, result, row)
    return _flag_added(part, len(first)) if len(more) else part


def _costing(part: DeblendedParent, result: Deblended, row: int) -> DeblendedParent:
    """Return the part with what the deblender tells of its work and of parts of galaxies."""
    if "work" in result.extra:
        part = replace(part, work=float(result.extra["work"][row]))
    large = "has_body" in result.extra and bool(result.extra["has_body"][row])
    return replace(part, parts_xy=_parts_xy(result, row), has_body=large)


def _parts_xy(result: Deblended, row: int) -> FloatArray:
    """Return the positions ``(m, 2)`` of what was put together with brighter sources."""
    if "parts_xy" not in result.extra:
        return np.empty((0, 2), np.float32)
    places = np.asarray(result.extra["parts_xy"][row], np.float32)
    return places[np.isfinite(places).all(axis=1)]


def _flag_added(part: DeblendedParent, first: int) -> DeblendedParent:
    """Return the part with the flag of classically deblended sources from the first such on."""
    added = np.arange(len(part.xy)) >= first
    flags = np.where(added, int(Flag.DEBLEND_FALLBACK), 0).astype(np.int32)
    return replace(part, source_flags=flags)


def _limited(result: Deblended, row: int) -> bool:
    """Tell whether a deblender with a limit of its work reached it."""
    return "limited" in result.extra and bool(result.extra["limited"][row])


def _measured(
    blend: Blend, result: Deblended, row: int, sources: NDArray[np.intp]
) -> Measurements | None:
    """Return the deblender's measurements of the chosen sources, in the order given."""
    told = {name: result.extra[name][row] for name in (*VALUES, *OPTIONAL) if name in result.extra}
    return measurements_of(blend, told, sources)


def measurements_of(
    blend: Blend, extra: Mapping[str, NDArray[np.generic]], sources: NDArray[np.intp]
) -> Measurements | None:
    """Return the measurements ``(k, ...)`` by name of chosen sources; None if there are none."""
    if not set(VALUES) <= set(extra):
        return None
    values: dict[str, Any] = {
        name: np.asarray(extra[name][sources], np.float64)
        for name in (*VALUES, *OPTIONAL)
        if name in extra
    }
    missing = np.isnan(values["flux"]).any(axis=1)
    flags = np.where(missing, Flag.BAND_MISSING, 0) | np.int32(blend.flags)
    nothing = not_attempted(len(sources), len(blend.image), JOINT_MODEL, JOINT)
    return replace(nothing, **values, flags=flags.astype(np.int32))


def _missed(blend: Blend, models: FloatArray, xy: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return classical models and positions of the detected peaks that no model explains.

    Explained is what is near one of `xy` ``(n, 2)``: the sources, and parts of them.
    """
    missed = _far_from(blend.xy, xy)
    if not missed.any() or len(blend.xy) < 2:
        return models[:0], xy[:0]
    residual = blend.image - models.sum(axis=0)
    more, more_xy = classical_models(residual, blend.variance, blend.unusable)
    wanted = ~_far_from(more_xy, blend.xy[missed]) & _far_from(more_xy, xy)
    return more[wanted], more_xy[wanted]


def _far_from(xy: FloatArray, others: FloatArray) -> BoolArray:
    """Tell which positions have none of the others within the radius of a match."""
    distance = np.linalg.norm(xy[:, None] - others[None], axis=2)
    return np.asarray((distance > FOOTPRINTS.match_radius).all(axis=1))


def classical(blend: Blend) -> DeblendedParent:
    """Return the sources that SExtractor's method finds in a footprint."""
    models, xy, _ = distinct_models(
        blend, *classical_models(blend.image, blend.variance, blend.unusable)
    )
    if not len(models):
        failed = undivided(blend, "none", "sep")
        return replace(failed, flags=int(Flag.DEBLEND_FAILED))
    return DeblendedParent(models, xy, "medium" if len(models) > 1 else "isolated", "sep")


def undivided(blend: Blend, quality: str, deblender: str) -> DeblendedParent:
    """Return a footprint as the one source at its brightest peak."""
    light = fill_holes(blend.image, blend.variance, blend.unusable)
    lost = blend.unusable.all(axis=0) | blend.unusable.all(axis=(1, 2), keepdims=True)
    model = np.where(blend.footprint & ~lost, light, np.float32(0))
    return DeblendedParent(model[np.newaxis], blend.xy[:1], quality, deblender)
