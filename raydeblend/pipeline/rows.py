"""From measurements to the rows of a shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydeblend import catalog
from raydeblend.detect.ids import pixels, source_id
from raydeblend.fit.result import ARRAYS, Measurements
from raydeblend.flags import Flag
from raydeblend.measure.blendedness import blendedness
from raydeblend.measure.plausible import only_plausible
from raydeblend.measure.point_sources import PointSources, measure_points
from raydeblend.measure.seen import seen_part
from raydeblend.parents import SCHEMA
from raydeblend.pipeline.bad import shipped_bad
from raydeblend.pipeline.cell_state import CellState
from raydeblend.pipeline.deblended import DeblendedParent
from raydeblend.pipeline.detected import Injection
from raydeblend.pipeline.distinct import peak_pixels
from raydeblend.pipeline.ownership import Coverage, is_primary, to_sky
from raydeblend.pipeline.plan import CellTask
from raydeblend.pipeline.sky_errors import sky_covariance, sky_jacobian
from raydeblend.pipeline.sky_profiles import sky_profiles
from raydeblend.psf import TilePsf
from raydeblend.tile import Blend, BoolArray, Box

if TYPE_CHECKING:
    from raydeblend.pipeline.products import Products

Rows = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Measured:
    """The rows of a cell, ready to be written.

    `noise` is that of `pipeline.detected.Detected` by band, where it is known; `parents` the table
    of footprints; with a `work_factor` above 1 these are only those of a second pass.  `products`
    are what is saved beside them, `injection` what became of the copy of the cell, `seen` what is
    seen in its pixels, of which a part is `unusable`.
    """

    task: CellTask
    table: pa.Table
    noise: Mapping[str, float] = field(default_factory=dict)
    parents: pa.Table = field(default_factory=SCHEMA.empty_table)
    work_factor: float = 1.0
    products: Products | None = None
    injection: Injection | None = None
    seen: CellState | None = None
    unusable: float = 0.0


def owned(task: CellTask, blend: Blend, part: DeblendedParent) -> BoolArray:
    """Tell which sources ``(k,)`` have their pixel in the cell's inner region."""
    inner = task.cell.inner
    return np.array([inner.contains(y, x) for x, y in blend.on_tile(part.xy)], dtype=bool)


@dataclass(frozen=True)
class MeasuredSources:
    """The measurements of a footprint's sources, maybe of several methods, fit to be published.

    Attributes
    ----------
    values
        Arrays of k rows by the names of `Measurements`, with ``model`` and ``photometry``.
    """

    values: Rows

    @classmethod
    def join(
        cls,
        groups: Sequence[Measurements],
        blend: Blend,
        part: DeblendedParent,
        pixel_scale: float,
    ) -> MeasuredSources:
        """Join measurements of the first sources of a part, the next and so on."""
        ends = np.cumsum([len(group.flags) for group in groups])
        checked = [
            only_plausible(group, blend, part.xy[end - len(group.flags) : end], pixel_scale)
            for group, end in zip(groups, ends.tolist(), strict=True)
        ]
        values = {
            name: np.concatenate([getattr(group, name) for group in checked]) for name in ARRAYS
        }
        for name in ("model", "photometry"):
            words = [np.full(len(group.flags), getattr(group, name)) for group in checked]
            values[name] = np.concatenate(words)
        return cls(values)

    def xy(self, part: DeblendedParent) -> NDArray[np.float64]:
        """Return the places ``(k, 2)`` to publish, in stamp pixels: the fitted, else the given."""
        return np.asarray(part.xy + np.nan_to_num(self.values["shift"]), dtype=np.float64)

    def points(self, blend: Blend, part: DeblendedParent, psf: TilePsf) -> PointSources:
        """Return what the sources are as points; at their peaks where the deblender fitted all."""
        if part.points is not None:
            return part.points
        places = part.xy if part.n_measured == len(part.xy) else self.xy(part)
        return measure_points(blend, part.models, places, psf.each(blend.on_tile(part.xy)))


def parent_rows(
    task: CellTask,
    blend: Blend,
    part: DeblendedParent,
    measured: MeasuredSources,
    points: PointSources,
    p_star: NDArray[np.float64],
    psf: TilePsf,
) -> Rows:
    """Return the rows of one footprint's sources that the cell owns; the sky follows later.

    Identifiers and owners are decided by the pixel in which the deblender has a source, whatever
    a fit moved.
    """
    header, values = task.cell.tile, measured.values
    places = blend.on_tile(part.xy)
    peaks = peak_pixels(places)
    xy = blend.on_tile(measured.xy(part))
    per_source = {
        "source_id": [source_id(header.name, y, x) for x, y in peaks.tolist()],
        "pixel_x": peaks[:, 0],
        "pixel_y": peaks[:, 1],
        "x": xy[:, 0],
        "y": xy[:, 1],
        "position_cov": values["position_cov"],
        "profile": values["profile"],
        "blendedness": _blendedness(part),
        "flags": values["flags"] | part.flags | _source_flags(part) | psf.flags(places),
        "p_unrecognized_blend": _p_unrecognized(part),
        "disagreement": _disagreement(part, values["flux_err"]),
        "p_star": p_star,
        "model": values["model"],
        "photometry": values["photometry"],
        **_measured_columns(values, points, header.bands),
        **_coverage(blend, part, header.bands),
    }
    shared = {
        "parent_id": blend.parent_id,
        "n_blended": part.n_blended,
        "deblender": part.deblender,
        "quality": part.quality,
    }
    keep = owned(task, blend, part)
    rows = {name: np.asarray(values)[keep] for name, values in per_source.items()}
    return rows | {name: np.full(keep.sum(), value) for name, value in shared.items()}


def _blendedness(part: DeblendedParent) -> NDArray[np.float64]:
    return blendedness(part.models) if part.blendedness is None else part.blendedness


def _coverage(blend: Blend, part: DeblendedParent, bands: Sequence[str]) -> Rows:
    seen = seen_part(part.models, blend.unusable) if part.coverage is None else part.coverage
    return {catalog.coverage_name(band): seen[:, i] for i, band in enumerate(bands)}


def _p_unrecognized(part: DeblendedParent) -> NDArray[np.floating]:
    """Return the calibrated probabilities ``(k,)``, else what the deblender says of a single."""
    if part.p_unrecognized is not None:
        return part.p_unrecognized
    return np.full(len(part.xy), part.p_blend if len(part.xy) == 1 else np.nan)


def _disagreement(part: DeblendedParent, flux_err: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the root mean square over the bands ``(k,)`` of the differences over the errors."""
    if part.opinion is None:
        return np.full(len(part.xy), np.nan)
    square = (part.opinion / flux_err) ** 2
    known = np.isfinite(square)
    mean = np.where(known, square, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return np.where(known.any(axis=1), np.sqrt(mean), np.nan)


def _source_flags(part: DeblendedParent) -> NDArray[np.int32]:
    if part.source_flags is not None:
        return part.source_flags
    return np.zeros(len(part.xy), dtype=np.int32)


def _measured_columns(values: Rows, points: PointSources, bands: Sequence[str]) -> Rows:
    names = ("snr", "r50", "T", "T_err", "g1", "g2", "g1_err", "g2_err", "chi2")
    columns = {name: values[name] for name in names}
    columns |= dict(zip(catalog.RESPONSE, values["response"].T, strict=True))
    for i, band in enumerate(bands):
        columns[f"flux_{band}"] = values["flux"][:, i]
        columns[f"flux_err_{band}"] = values["flux_err"][:, i]
        columns[f"flux_psf_{band}"] = points.flux[:, i]
        columns[f"flux_psf_err_{band}"] = points.flux_err[:, i]
        columns[f"bulge_fraction_{band}"] = values["bulge_fraction"][:, i]
        for j in range(i + 1, len(bands)):
            columns[catalog.covariance_name(band, bands[j])] = values["flux_cov"][:, i, j]
    return columns


def to_measured(
    task: CellTask,
    parents: Sequence[Rows],
    covered: Coverage,
    noise: Sequence[float] = (),
    opinion: str | None = None,
) -> Measured:
    """Return the shard of a cell from the rows of its footprints, ordered by source.

    Where tiles overlap, `covered` tells how well they cover a place (`pipeline.ownership`);
    `opinion` is the deblender whose second opinion the rows hold.
    """
    bands = task.cell.tile.bands
    known = {band: float(r) for band, r in zip(bands, noise, strict=False) if np.isfinite(r)}
    if not parents:
        return Measured(task, catalog.schema(bands).empty_table(), known)
    rows = {name: np.concatenate([rows[name] for rows in parents]) for name in parents[0]}
    order = np.argsort(rows["source_id"])
    rows = {name: values[order] for name, values in rows.items()}
    rows["chi2"] = rows["chi2"] / _expected_chi2(rows, bands, known)
    rows["p_bad"] = shipped_bad().p_bad(rows, bands, opinion)
    return Measured(task, catalog.to_table(rows | _place(task, rows, covered), bands), known)


def _expected_chi2(
    rows: Rows, bands: Sequence[str], noise: Mapping[str, float]
) -> NDArray[np.float64]:
    """Return the reduced χ² ``(n,)`` of a right model, whose residual is the noise of pixels.

    The variance fitted with is that of sums over sources, larger by the square of `noise`.
    """
    seen = np.array([np.isfinite(rows[f"flux_{band}"]) for band in bands])
    inverse = np.array([noise.get(band, 1.0) ** -2 for band in bands])
    return np.where(seen.any(axis=0), inverse @ seen / np.maximum(seen.sum(axis=0), 1), 1.0)


def _place(task: CellTask, rows: Rows, covered: Coverage) -> Rows:
    header, n = task.cell.tile, len(rows["x"])
    xy = np.column_stack([rows["x"], rows["y"]])
    # By pixel, so that tiles on one grid decide alike whatever a fit moved.
    pixels = np.column_stack([rows["pixel_x"], rows["pixel_y"]]).astype(np.float64)
    sky = to_sky(header, xy)
    jacobian = sky_jacobian(header, xy)
    covariance = sky_covariance(jacobian, rows["position_cov"])
    return {
        "tile": np.full(n, header.name),
        "cell": np.full(n, task.cell.name),
        "input_id": _input_ids(task, rows),
        "ra": sky.ra.deg,
        "dec": sky.dec.deg,
        "ra_err": np.sqrt(covariance[:, 0, 0]),
        "dec_err": np.sqrt(covariance[:, 1, 1]),
        "ra_dec_cov": covariance[:, 0, 1],
        "is_primary": is_primary(header, task.neighbors, pixels, covered),
        **sky_profiles(rows["profile"], jacobian, header.pixel_scale),
    }


def _input_ids(task: CellTask, rows: Rows) -> NDArray[np.str_]:
    """Return what the given position of each source is called; empty where none was given."""
    if task.positions is None:
        return np.full(len(rows["x"]), "")
    return np.array(task.positions.names_at(rows["pixel_x"], rows["pixel_y"]), dtype=np.str_)


def counts(table: pa.Table, inner: Box) -> dict[str, Any]:
    """Return what the ledger says of a shard.

    A footprint that reaches into several cells counts in the one with its brightest peak, whose
    pixel is part of its identifier.
    """
    parents, first = np.unique(table["parent_id"].to_numpy(), return_index=True)
    y, x = pixels(parents)
    own = (y >= inner.y0) & (y < inner.y1) & (x >= inner.x0) & (x < inner.x1)
    blended = table["n_blended"].to_numpy()[first] > 1
    flags = table["flags"].to_numpy()
    carried = {str(flag.name): int(np.count_nonzero(flags & flag)) for flag in Flag}
    return {
        "sources": table.num_rows,
        "blends": int(np.sum(own & blended)),
        "parents": int(np.sum(own)),
        "flags": {name: n for name, n in carried.items() if n},
    }
