"""From measurements to the rows of a shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raydeblend import catalog
from raydeblend.detect.ids import pixels, source_id
from raydeblend.fit.result import Measurements
from raydeblend.flags import Flag
from raydeblend.measure.blendedness import blendedness
from raydeblend.pipeline.ownership import Coverage, is_primary, to_sky
from raydeblend.pipeline.parts import DeblendedParent, peak_pixels
from raydeblend.pipeline.plan import CellTask
from raydeblend.tile import Blend, BoolArray, Box

Rows = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Measured:
    """The rows of a cell, ready to be written."""

    task: CellTask
    table: pa.Table


def owned(task: CellTask, blend: Blend, part: DeblendedParent) -> BoolArray:
    """Tell which sources ``(k,)`` have their pixel in the cell's inner region."""
    inner = task.cell.inner
    return np.array([inner.contains(y, x) for x, y in _tile_xy(blend, part)], dtype=bool)


def _tile_xy(blend: Blend, part: DeblendedParent) -> NDArray[np.float64]:
    offset = np.array([blend.box.x0, blend.box.y0], dtype=np.float64)
    return np.asarray(part.xy + offset)


def parent_rows(
    task: CellTask, blend: Blend, part: DeblendedParent, measured: Measurements
) -> Rows:
    """Return the rows of one footprint's sources that the cell owns; the sky follows later."""
    xy, header = _tile_xy(blend, part), task.cell.tile
    per_source = {
        "source_id": [source_id(header.name, y, x) for x, y in peak_pixels(xy).tolist()],
        "x": xy[:, 0],
        "y": xy[:, 1],
        "blendedness": _blendedness(part),
        "flags": measured.flags | part.flags | _source_flags(part),
        "p_unrecognized_blend": _p_unrecognized(part),
        **_measured_columns(measured, header.bands),
    }
    shared = {
        "parent_id": blend.parent_id,
        "n_blended": part.n_blended,
        "model": measured.model,
        "photometry": measured.photometry,
        "deblender": part.deblender,
        "quality": part.quality,
    }
    keep = owned(task, blend, part)
    rows = {name: np.asarray(values)[keep] for name, values in per_source.items()}
    return rows | {name: np.full(keep.sum(), value) for name, value in shared.items()}


def _blendedness(part: DeblendedParent) -> NDArray[np.float64]:
    return blendedness(part.models) if part.blendedness is None else part.blendedness


def _p_unrecognized(part: DeblendedParent) -> NDArray[np.floating]:
    """Return the calibrated probabilities ``(k,)``, else what the deblender says of a single."""
    if part.p_unrecognized is not None:
        return part.p_unrecognized
    return np.full(len(part.xy), part.p_blend if len(part.xy) == 1 else np.nan)


def _source_flags(part: DeblendedParent) -> NDArray[np.int32]:
    if part.source_flags is not None:
        return part.source_flags
    return np.zeros(len(part.xy), dtype=np.int32)


def _measured_columns(measured: Measurements, bands: Sequence[str]) -> Rows:
    names = ("snr", "T", "T_err", "g1", "g2", "g1_err", "g2_err", "chi2")
    columns = {name: getattr(measured, name) for name in names}
    for i, band in enumerate(bands):
        columns[f"flux_{band}"] = measured.flux[:, i]
        columns[f"flux_err_{band}"] = measured.flux_err[:, i]
    return columns


def to_measured(task: CellTask, parents: Sequence[Rows], covered: Coverage) -> Measured:
    """Return the shard of a cell from the rows of its footprints, ordered by source.

    Where tiles overlap, `covered` tells how well they cover a place (`pipeline.ownership`).
    """
    bands = task.cell.tile.bands
    if not parents:
        return Measured(task, catalog.schema(bands).empty_table())
    rows = {name: np.concatenate([rows[name] for rows in parents]) for name in parents[0]}
    order = np.argsort(rows["source_id"])
    rows = {name: values[order] for name, values in rows.items()}
    return Measured(task, catalog.to_table(rows | _place(task, rows, covered), bands))


def _place(task: CellTask, rows: Rows, covered: Coverage) -> Rows:
    header, n = task.cell.tile, len(rows["x"])
    xy = np.column_stack([rows["x"], rows["y"]])
    # By pixel, so that tiles on one grid decide alike whatever a fit moved.
    pixels = peak_pixels(xy).astype(np.float64)
    sky = to_sky(header, xy)
    return {
        "tile": np.full(n, header.name),
        "cell": np.full(n, task.cell.name),
        "ra": sky.ra.deg,
        "dec": sky.dec.deg,
        "is_primary": is_primary(header, task.neighbors, pixels, covered),
    }


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
