"""The table of footprints: what became of every detected peak.

``OUT/parents`` has one file for each cell, as the catalog has, and in it a row for each footprint
of which the cell owns a peak or a source.  A peak is a row of the catalog or counted here by one of
the reasons of `Unpublished`:

    n_peaks = n_sources - n_added + the sum of n_<reason>
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from raydeblend import storage
from raydeblend.catalog import Column, from_bytes, schema_of, table_of
from raydeblend.errors import ConfigError


class Unpublished(StrEnum):
    """Why a detected peak is no row of the catalog; `PEAK_REASONS` says what each means."""

    STRUCTURE = "structure"
    MERGED = "merged"
    EVIDENCE = "evidence"
    LIMITED = "limited"
    FAILED = "failed"
    NO_DATA = "no_data"
    OTHER_CELL = "other_cell"


PEAK_REASONS: Mapping[Unpublished, str] = {
    Unpublished.STRUCTURE: "its source was put together with a brighter one, whose structure it is",
    Unpublished.MERGED: "the nearest source stands for another peak, the two are one",
    Unpublished.EVIDENCE: "the deblender keeps no source there: its evidence is against one",
    Unpublished.LIMITED: "no source there when the work on the footprint had to end",
    Unpublished.FAILED: "the deblender found nothing, the row is the undivided footprint",
    Unpublished.NO_DATA: "no band has a usable pixel there",
    Unpublished.OTHER_CELL: "its source lies across the edge and is a row of the next cell",
}


class Shortfall(StrEnum):
    """Why a footprint was not deblended in full; `SHORTFALLS` says what each means."""

    FAILED = "failed"
    LIMITED = "limited"
    CLASSICAL = "classical"


SHORTFALLS: Mapping[Shortfall, str] = {
    Shortfall.FAILED: "the deblender found nothing: one row, the undivided footprint",
    Shortfall.LIMITED: "the work on it reached its limit (catalog --resume --retry-limited)",
    Shortfall.CLASSICAL: "too large for the deblender, or missed by it: SExtractor's method, all"
    " or in part",
}

FOLDER = "parents"

COLUMNS = (
    Column("parent_id", pa.int64(), "", "identifies the footprint; from its tile and first peak"),
    Column("tile", pa.string(), "", "name of the tile"),
    Column("cell", pa.string(), "", "name of the cell whose peaks and sources are counted"),
    Column("is_owner", pa.bool_(), "", "whether the brightest peak is in the cell: in one cell"),
    Column("is_primary", pa.bool_(), "", "false for a copy in a tile that does not own the place"),
    Column("ra", pa.float64(), "deg", "right ascension of the brightest peak, ICRS"),
    Column("dec", pa.float64(), "deg", "declination of the brightest peak, ICRS"),
    Column("x", pa.float64(), "pix", "column of the brightest peak in the tile"),
    Column("y", pa.float64(), "pix", "row of the brightest peak in the tile"),
    Column("x0", pa.int32(), "pix", "first column of the detected pixels"),
    Column("y0", pa.int32(), "pix", "first row of the detected pixels"),
    Column("x1", pa.int32(), "pix", "column after the last of the detected pixels"),
    Column("y1", pa.int32(), "pix", "row after the last of the detected pixels"),
    Column("area", pa.int32(), "pix", "number of detected pixels"),
    Column("n_blended", pa.int32(), "", "number of sources in the footprint, of all cells"),
    Column("n_peaks", pa.int32(), "", "detected peaks in the cell"),
    Column("n_sources", pa.int32(), "", "rows of the catalog in the cell"),
    Column("n_added", pa.int32(), "", "rows that stand for no detected peak of the cell"),
    *(Column(f"n_{r}", pa.int32(), "", f"peaks: {PEAK_REASONS[r]}") for r in Unpublished),
    Column("shortfall", pa.string(), "", "why it was not deblended in full; empty if it was"),
    Column("deblender", pa.string(), "", "deblender that separated the sources"),
    Column("quality", pa.string(), "", "deblending: isolated, high, medium, low or none"),
    Column(
        "chi2",
        pa.float32(),
        "",
        "chi squared of all models per usable pixel of the footprint and band; null where models"
        " are the image's own pixels, in pieces",
    ),
    Column(
        "work",
        pa.float64(),
        "",
        "of the joint fit: evaluations of the model times sources, bands and samples; null for"
        " other deblenders",
    ),
    Column("work_factor", pa.float32(), "", "limits of work were this many times the usual ones"),
    Column("flags", pa.int32(), "", "bits of raydeblend.flags.Flag of the footprint"),
)

SCHEMA = schema_of(COLUMNS)


def columns(_bands: Sequence[str] = ()) -> tuple[Column, ...]:
    """Return the columns, which are the same in all bands, in order."""
    return COLUMNS


def to_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return the table of a cell's footprints, ordered by identifier."""
    ordered = sorted(rows, key=lambda row: int(row["parent_id"]))
    columns: dict[str, ArrayLike] = {name: [row[name] for row in ordered] for name in SCHEMA.names}
    return table_of(columns, SCHEMA)


def read_parents(out: str) -> pa.Table:
    """Read all of ``out/parents``, local or on s3, in order of their paths.

    Raises
    ------
    ConfigError
        If there is none, or a file of it is damaged.
    """
    paths = storage.list_files(storage.join(out, FOLDER), ".parquet")
    if not paths:
        raise ConfigError(f"{out} holds no table of footprints: there is no {out}/{FOLDER}")
    return pa.concat_tables([_read_whole(path) for path in paths])


def _read_whole(path: str) -> pa.Table:
    try:
        return from_bytes(storage.read_bytes(path))
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def unaccounted(table: pa.Table) -> NDArray[np.int64]:
    """Return ``(n,)`` peaks of each footprint that are neither a row nor counted; 0 if all are."""
    reasons = sum(table[f"n_{reason}"].to_numpy() for reason in Unpublished)
    rows = table["n_sources"].to_numpy() - table["n_added"].to_numpy()
    return np.asarray(table["n_peaks"].to_numpy() - rows - reasons, dtype=np.int64)
