"""A cell once it is deblended, footprint by footprint, as it goes to the photometry."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.result import Measurements
from raydeblend.measure.blendedness import blendedness
from raydeblend.measure.point_sources import PointSources, measure_points
from raydeblend.measure.seen import seen_part
from raydeblend.pipeline.accounts import Account
from raydeblend.pipeline.detected import Detected
from raydeblend.psf import TilePsf
from raydeblend.tile import Blend, FloatArray

if TYPE_CHECKING:
    from raydeblend.pipeline.products import Products


@dataclass(frozen=True)
class DeblendedParent:
    """The sources of one footprint.

    Attributes
    ----------
    models
        ``(k, bands, y, x)`` in nJy, k at least 1.
    xy
        ``(k, 2)`` positions (x, y) in stamp pixels, each in a pixel of its own in the footprint.
    quality
        ``isolated``, ``high``, ``medium``, ``low`` or ``none``.
    deblender
        Name of the deblender that separated it.
    p_blend
        Probability that a single source is two or more; NaN where not known.
    flags
        Bits of `raydeblend.flags.Flag` that the deblending sets.
    measured
        The deblender's own measurements of its sources, if it makes any: of all, or of the first,
        where others had to be added.
    p_unrecognized, source_flags
        ``(k,)`` probability that a source is two or more and bits of its own, where there is a
        calibration (`raydeblend.pipeline.suspects`).
    blendedness, coverage, points
        ``(k,)``, ``(k, bands)`` and what the sources are as points, where `models` is left out,
        since `measured` says all.
    of_footprint
        How many sources the footprint has, where these are only some of them
        (`raydeblend.pipeline.pieces`); else 0.
    work
        What it cost, see `raydeblend.tile.Separated`; NaN where not known.
    opinion
        ``(k, bands)`` by how much another method's fluxes inside the footprint are larger, in nJy
        (`raydeblend.pipeline.opinion`), where it was asked.
    parts_xy
        ``(m, 2)`` stamp positions of what was put together with brighter sources.
    has_body
        Whether a galaxy among them is so large that its body was fitted first.
    """

    models: FloatArray
    xy: FloatArray
    quality: str
    deblender: str
    p_blend: float = np.nan
    flags: int = 0
    measured: Measurements | None = None
    p_unrecognized: FloatArray | None = None
    source_flags: NDArray[np.int32] | None = None
    blendedness: NDArray[np.float64] | None = None
    coverage: NDArray[np.float64] | None = None
    points: PointSources | None = None
    of_footprint: int = 0
    work: float = np.nan
    opinion: NDArray[np.float64] | None = None
    parts_xy: FloatArray = field(default_factory=lambda: np.empty((0, 2), np.float32))
    has_body: bool = False

    @property
    def n_blended(self) -> int:
        """Number of sources in the footprint."""
        return self.of_footprint or len(self.xy)

    @property
    def n_measured(self) -> int:
        """Number of sources that the deblender measured itself; they come first."""
        return 0 if self.measured is None else len(self.measured.flags)


@dataclass(frozen=True)
class DeblendedCell:
    """The footprints of a cell, or pieces of them, the sources of each, and accounts of all.

    `products` are what is saved with the catalog.
    """

    detected: Detected
    parts: tuple[DeblendedParent, ...]
    accounts: tuple[Account, ...] = ()
    products: Products | None = None


def without_models(separated: DeblendedCell) -> DeblendedCell:
    """Leave out the models of footprints that are measured: they would fill the object store."""
    detected = separated.detected
    pairs = zip(detected.blends, separated.parts, strict=True)
    return replace(separated, parts=tuple(_slim(*pair, detected.psf) for pair in pairs))


def no_pixels_of(models: FloatArray) -> FloatArray:
    """Return models without pixels ``(k, bands, 0, 0)``; a view would keep those in memory."""
    return models[:, :, :0, :0].copy()


def _slim(blend: Blend, part: DeblendedParent, psf: TilePsf) -> DeblendedParent:
    if not part.models.size or part.n_measured < len(part.xy):
        return part
    nothing = no_pixels_of(part.models)
    if part.points is not None:
        return replace(part, models=nothing)
    return replace(
        part,
        models=nothing,
        blendedness=blendedness(part.models),
        coverage=seen_part(part.models, blend.unusable),
        points=measure_points(blend, part.models, part.xy, psf.each(blend.on_tile(part.xy))),
    )


def unmeasured(blend: Blend, part: DeblendedParent) -> tuple[Blend, DeblendedParent]:
    """Return the sources that the deblender did not measure, and the stamp without the others."""
    done = part.n_measured
    if not done:
        return blend, part
    if done == len(part.xy):
        # Their models may be left out already.
        return blend, replace(part, models=part.models[:0], xy=part.xy[:0], measured=None)
    others = part.models[:done].sum(axis=0)
    rest = replace(part, models=part.models[done:], xy=part.xy[done:], measured=None)
    return replace(blend, image=blend.image - others), rest
