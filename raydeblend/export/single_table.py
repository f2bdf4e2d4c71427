"""A catalog as one table for TOPCAT, STILTS, astropy and spreadsheets: FITS, VOTable, CSV, ECSV."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa
from astropy.io import fits
from astropy.io.votable import from_table, writeto
from astropy.table import Column, Table

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.export.rows import rows_for

NAME = "catalog"
"""Of the table in files that have one."""


def export_table(
    outs: str | Sequence[str],
    target: str,
    kind: str,
    *,
    all_rows: bool = False,
    overwrite: bool = False,
) -> int:
    """Write the shards of a catalog as one file, local or on s3; return the number of rows.

    Parameters
    ----------
    outs
        The catalog, or several parts of a survey.
    kind
        ``fits`` (a binary table), ``votable``, or ``csv``, which is ECSV where the target's name
        ends so: that keeps units and descriptions.
    all_rows
        Whether the copies of sources in overlapping tiles are exported too.

    Raises
    ------
    ConfigError
        See `raydeblend.export.rows.rows_for`; or if the name ends as that of another format does.
    """
    if not target.lower().endswith(ENDINGS[kind]):
        raise ConfigError(f"{target} must end in {' or '.join(ENDINGS[kind])}")
    _, rows = rows_for([target], outs, all_rows=all_rows, overwrite=overwrite)
    storage.write_bytes(target, WRITERS[_format(kind, target)](to_astropy(rows)))
    return int(rows.num_rows)


def _format(kind: str, target: str) -> str:
    return "ecsv" if kind == "csv" and target.endswith(".ecsv") else kind


def to_astropy(rows: pa.Table) -> Table:
    """Return rows of a catalog as an astropy table with units, descriptions and UCDs.

    What could not be measured is NaN.
    """
    return Table([_column(rows[field.name], field) for field in rows.schema])


def _column(values: pa.ChunkedArray, field: pa.Field) -> Column:
    data = values.to_numpy()
    if data.dtype == object:
        data = data.astype(np.str_)
    said = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    return Column(
        data,
        name=field.name,
        unit=said.get("unit") or None,
        description=said.get("description"),
        meta={"ucd": said["ucd"]} if said.get("ucd") else {},
    )


def _to_fits(table: Table) -> bytes:
    written, finished = io.BytesIO(), io.BytesIO()
    table.write(written, format="fits")
    written.seek(0)
    with fits.open(written) as hdus:
        header = hdus[1].header
        header["EXTNAME"] = NAME
        # astropy has a record of its own in the comments; TOPCAT and STILTS look in these cards.
        for number, column in enumerate(table.itercols(), start=1):
            header[f"TCOMM{number}"] = column.description
            header[f"TUCD{number}"] = column.meta.get("ucd", "")
        hdus.writeto(finished)
    return finished.getvalue()


def _to_votable(table: Table) -> bytes:
    buffer = io.BytesIO()
    writeto(from_table(table, table_id=NAME), buffer, tabledata_format="binary2")
    return buffer.getvalue()


def _to_csv(table: Table) -> bytes:
    text = io.StringIO()
    table.to_pandas().to_csv(text, index=False)
    return text.getvalue().encode()


def _to_ecsv(table: Table) -> bytes:
    text = io.StringIO()
    table.write(text, format="ascii.ecsv", delimiter=",")
    return text.getvalue().encode()


ENDINGS = {
    "fits": (".fits", ".fit"),
    "votable": (".vot", ".votable", ".xml"),
    "csv": (".csv", ".ecsv"),
}
"""Endings of file names by which TOPCAT and astropy recognize the format."""
WRITERS: Mapping[str, Callable[[Table], bytes]] = {
    "fits": _to_fits,
    "votable": _to_votable,
    "csv": _to_csv,
    "ecsv": _to_ecsv,
}
