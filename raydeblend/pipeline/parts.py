"""The footprints of a cell on their way, and what a deblender's answer makes of each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.sep import classical_models, fill_holes
from raydeblend.fit.result import ARRAYS, Measurements, not_attempted
from raydeblend.flags import Flag
from raydeblend.inject.sources import InjectedSources
from raydeblend.measure.blendedness import blendedness
from raydeblend.measure.point_sources import PointSources, measure_points
from raydeblend.measure.seen import seen_part
from raydeblend.pipeline.accounts import MATCH_RADIUS, Account
from raydeblend.pipeline.cell_state import CellState
from raydeblend.pipeline.plan import CellTask
from raydeblend.psf import TilePsf
from raydeblend.tile import Blend, BoolArray, Deblended, FloatArray

if TYPE_CHECKING:
    from raydeblend.pipeline.products import Products

JOINT, JOINT_MODEL = "joint", "bulge+disk"
"""Names of its photometry and of its model in the catalog."""
OPTIONAL = ("flux_cov", "r50", "bulge_fraction", "shift", "position_cov", "response", "profile")
VALUES = tuple(name for name in ARRAYS if name not in ("flags", *OPTIONAL))
"""What a deblender that measures its sources must give in `Deblended.extra`."""


@dataclass(frozen=True)
class CellPixels:
    """The inner region of a cell, where images of it are saved.

    Attributes
    ----------
    image
        ``(bands, y, x)`` in nJy, NaN where unusable.
    labels
        ``(y, x)`` which of `parents` a pixel belongs to, 1 for the first and 0 for none.
    parents
        Identifiers of footprints.
    """

    image: FloatArray
    labels: NDArray[np.int32]
    parents: tuple[int, ...]


@dataclass(frozen=True)
class Injection:
    """The copy of a cell with injected sources, on its way through the stages.

    Attributes
    ----------
    state
        What the last stage made of the copy; at the end the table of injected sources.
    sources
        What was injected; None if that failed.
    """

    state: CellState
    sources: InjectedSources | None

    @property
    def has_sources(self) -> bool:
        """Whether there is anything to look at."""
        return self.sources is not None and len(self.sources) > 0


@dataclass(frozen=True)
class Detected:
    """The footprints of a cell that reach into its inner region, and the PSF by place.

    Attributes
    ----------
    noise
        Of each band, on the scale of sources over that of independent pixels; its square is in the
        variance of `blends`.  NaN where not known, empty if not measured.
    work_factor
        By how much the deblender's limits of work are larger than usual.
    pixels
        Where images are saved.
    injection
        The copy of the cell with injected sources, if there is one.
    seen
        What is seen in the pixels, see `raydeblend.checks`.
    unusable
        Part of the pixels of the inner region that are usable in no band.
    """

    task: CellTask
    blends: tuple[Blend, ...]
    psf: TilePsf
    noise: tuple[float, ...] = ()
    work_factor: float = 1.0
    pixels: CellPixels | None = None
    injection: Injection | None = None
    seen: CellState | None = None
    unusable: float = 0.0

    def psf_of(self, blend: Blend) -> tuple[FloatArray, ...]:
        """Return the stamp of each band at a footprint's brightest peak."""
        return self.psf.stamps(self.key_of(blend))

    def key_of(self, blend: Blend) -> tuple[int, ...]:
        """Return the same for all footprints at whose brightest peaks the stamps are."""
        return self.psf.keys(blend.on_tile(blend.xy[:1]))[0]


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

    `products` are what is saved beside the catalog.
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
    models, xy, first = _distinct(blend, result.models[row, :n], result.xy[row, :n])
    more, more_xy = _missed(blend, models, np.concatenate([xy, _parts_xy(result, row)]))
    if not len(models) + len(more):
        failed = _costing(undivided(blend, "none", deblender), result, row)
        return replace(failed, flags=int(Flag.DEBLEND_FAILED))
    measured = _measured(blend, result, row, first)
    if len(more):
        both = np.concatenate([models, more]), np.concatenate([xy, more_xy])
        models, xy, _ = _distinct(blend, *both)
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
    if not set(VALUES) <= set(result.extra):
        return None
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
    """Tell which positions have none of the others within `MATCH_RADIUS`."""
    distance = np.linalg.norm(xy[:, None] - others[None], axis=2)
    return np.asarray((distance > MATCH_RADIUS).all(axis=1))


def classical(blend: Blend) -> DeblendedParent:
    """Return the sources that SExtractor's method finds in a footprint."""
    models, xy, _ = _distinct(blend, *classical_models(blend.image, blend.variance, blend.unusable))
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


def _distinct(
    blend: Blend, models: FloatArray, xy: FloatArray
) -> tuple[FloatArray, FloatArray, NDArray[np.intp]]:
    """Drop sources outside the footprint and add up those that share a pixel.

    Returns models, positions and the index of each in the input, the brightest of those added up.

    Footprints do not overlap, so a source then has a pixel of its tile to itself, from which
    its identifier is made.
    """
    kept, number = distinct_sources(blend, xy)
    summed = models[kept].astype(np.float32, copy=False)
    for extra in np.setdiff1d(np.flatnonzero(number >= 0), kept):
        summed[number[extra]] += models[extra]
    return summed, np.asarray(xy[kept], dtype=np.float32), kept


def distinct_sources(blend: Blend, xy: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Tell which sources are left when those in one pixel are one.

    Returns
    -------
    kept
        Index of each that is left, in the order given.
    number
        ``(k,)`` to which of `kept` each belongs; -1 outside the footprint.
    """
    inside = _in_footprint(blend, xy)
    x, y = peak_pixels(xy[inside]).T
    pixels = y * blend.footprint.shape[1] + x
    _, first, group = np.unique(pixels, return_index=True, return_inverse=True)
    # np.unique sorts by pixel; the order by brightness is that of first appearance.
    order = np.argsort(first)
    number = np.full(len(xy), -1)
    number[inside] = np.argsort(order)[group]
    return np.flatnonzero(inside)[first[order]], number


def _in_footprint(blend: Blend, xy: FloatArray) -> BoolArray:
    height, width = blend.footprint.shape
    finite = np.asarray(np.isfinite(xy).all(axis=1))
    x, y = peak_pixels(np.where(finite[:, np.newaxis], xy, -1)).T
    inside: BoolArray = finite & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    inside[inside] = blend.footprint[y[inside], x[inside]]
    return inside


def peak_pixels(xy: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the pixel ``(n, 2)`` (x, y) that each position lies in."""
    return np.asarray(np.floor(np.asarray(xy, dtype=np.float64) + 0.5), dtype=np.int64)
