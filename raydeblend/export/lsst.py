"""A catalog as tables named like those of the Rubin Observatory's releases, with their schema.

Only a column that means the same has Rubin's name; all others keep ours.  In particular the
fluxes of our models are no CModel fluxes.  Source: the tables Object and Parent of Rubin's Data
Preview 2 (package ``sdm_schemas``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raydeblend import storage, tables
from raydeblend.export.felis import schema_yaml
from raydeblend.export.rows import rows_for
from raydeblend.parents import Shortfall, read_parents

OBJECT, PARENT, SCHEMA = "Object.parquet", "Parent.parquet", "schema.yaml"
DEGREE = {"arcsec": ("deg", 1 / 3600), "arcsec2": ("deg2", 1 / 3600**2)}
"""Rubin's unit for the errors of positions, in ours."""
SAME = {
    "source_id": "objectId",
    "parent_id": "parentObjectId",
    "ra": "coord_ra",
    "dec": "coord_dec",
    "ra_err": "coord_raErr",
    "dec_err": "coord_decErr",
    "ra_dec_cov": "coord_ra_dec_Cov",
    "is_primary": "detect_isPrimary",
    "n_blended": "deblend_parentNChild",
}
SAME_BY_BAND = {"flux_psf_{}": "{}_psfFlux", "flux_psf_err_{}": "{}_psfFluxErr"}
SAME_OF_PARENTS = {
    "parent_id": "objectId",
    "n_peaks": "deblend_nPeaks",
    "n_blended": "deblend_nChild",
}
COUNTED = ("n_peaks", "n_sources", "n_added")
"""What each cell counts for its part of a footprint that lies in several."""


@dataclass(frozen=True)
class LsstExport:
    """What was written: the numbers of rows of the two tables, and the folder."""

    n_objects: int
    n_parents: int
    folder: str


def export_lsst(
    outs: str | Sequence[str], folder: str, *, all_rows: bool = False, overwrite: bool = False
) -> LsstExport:
    """Write ``Object.parquet``, ``Parent.parquet`` and the schema of both, in felis' YAML.

    Parameters
    ----------
    outs
        The catalog, or several parts of a survey.
    folder
        Local or on s3.
    all_rows
        Whether the copies of sources in overlapping tiles are exported too.

    Raises
    ------
    ConfigError
        See `raydeblend.export.rows.rows_for`; or if a catalog has no table of footprints.
    """
    paths = [storage.join(folder, name) for name in (OBJECT, PARENT, SCHEMA)]
    source, rows = rows_for(paths, outs, all_rows=all_rows, overwrite=overwrite)
    footprints = whole_footprints(pa.concat_tables([read_parents(out) for out in source.outs]))
    if not all_rows:
        needed = pc.is_in(footprints["parent_id"], rows["parent_id"])
        footprints = footprints.filter(pc.or_(footprints["is_primary"], needed))
    objects, parents = to_objects(rows, footprints, source.run.bands), to_parents(footprints)
    schema = schema_yaml({"Object": (objects, "objectId"), "Parent": (parents, "objectId")})
    contents = (*map(_for_astropy, (objects, parents)), schema.encode())
    for path, content in zip(paths, contents, strict=True):
        storage.write_bytes(path, content)
    return LsstExport(objects.num_rows, parents.num_rows, folder)


def whole_footprints(parts: pa.Table) -> pa.Table:
    """Return one row per footprint: that of its owner, with the counts of all cells."""
    owners = parts.filter(pc.field("is_owner"))
    where = _places(parts["parent_id"], owners["parent_id"])
    for name in COUNTED:
        total = np.zeros(owners.num_rows, np.int32)
        known = where >= 0
        np.add.at(total, where[known], parts[name].to_numpy()[known])
        column = owners.schema.get_field_index(name)
        owners = owners.set_column(column, owners.schema.field(name), pa.array(total))
    return owners


def _places(values: pa.ChunkedArray, among: pa.ChunkedArray) -> NDArray[np.int64]:
    """Return the index of each of `values` `among` others, -1 if it is missing."""
    found = pc.index_in(values, among.combine_chunks())
    return np.asarray(pc.fill_null(found, -1).to_numpy(), dtype=np.int64)


def to_objects(rows: pa.Table, footprints: pa.Table, bands: Sequence[str]) -> pa.Table:
    """Return rows of the catalog as Rubin's Object table."""
    by_band = {
        ours.format(band): theirs.format(band)
        for band in bands
        for ours, theirs in SAME_BY_BAND.items()
    }
    objects = _renamed(rows, SAME | by_band)
    place = _places(rows["parent_id"], footprints["parent_id"])
    peaks = pa.array(np.append(footprints["n_peaks"].to_numpy(), 0)[place], pa.int32())
    blended = pc.greater(rows["n_blended"], 1)
    objects = _with(objects, "detect_fromBlend", blended, "whether it shares its footprint")
    objects = _with(objects, "detect_isIsolated", pc.invert(blended), "alone in its footprint")
    return _with(objects, "deblend_parentNPeaks", peaks, "detected peaks of its footprint")


def to_parents(footprints: pa.Table) -> pa.Table:
    """Return footprints as Rubin's Parent table."""
    parents = _renamed(footprints, SAME_OF_PARENTS)
    failed = pc.equal(footprints["shortfall"], Shortfall.FAILED)
    return _with(parents, "deblend_failed", failed, "whether the deblender found nothing")


def _for_astropy(table: pa.Table) -> bytes:
    return tables.to_parquet(table.cast(tables.described(table.schema)))


def _renamed(table: pa.Table, names: Mapping[str, str]) -> pa.Table:
    """Return a table with some columns under other names, errors of positions in degrees."""
    columns = [_renamed_column(table, field, names) for field in table.schema]
    return pa.Table.from_arrays([c for c, _ in columns], schema=pa.schema([f for _, f in columns]))


def _renamed_column(
    table: pa.Table, field: pa.Field, names: Mapping[str, str]
) -> tuple[pa.ChunkedArray, pa.Field]:
    values, name = table[field.name], names.get(field.name, field.name)
    metadata = dict(field.metadata or {})
    unit, factor = DEGREE.get(metadata.get(b"unit", b"").decode(), ("", 1.0))
    if name != field.name and unit:
        values = pc.multiply(values, pa.scalar(factor, field.type))
        metadata[b"unit"] = unit.encode()
    return values, field.with_name(name).with_metadata(metadata)


def _with(table: pa.Table, name: str, values: pa.Array, description: str) -> pa.Table:
    metadata = {"unit": "", "description": description, "ucd": ""}
    return table.append_column(pa.field(name, values.type, False, metadata), values)
