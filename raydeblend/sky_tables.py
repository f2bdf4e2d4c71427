"""Users' tables of places on the sky, in any format, as plain columns."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.io.registry import IORegistryError
from astropy.table import Column, Table
from numpy.typing import NDArray

from raydeblend import storage, tables
from raydeblend.errors import ConfigError

FORMATS = {
    ".parquet": "parquet", ".fits": "fits", ".fits.gz": "fits", ".csv": "ascii.csv",
    ".ecsv": "ascii.ecsv", ".vot": "votable", ".xml": "votable",
}  # fmt: skip
"""By the ending of the file."""
UNREADABLE = (pa.ArrowException, IORegistryError, EOFError, ValueError)
"""What readers of tables raise."""
UNITS = {"ra": "deg", "dec": "deg", "disk_pa": "deg", "bulge_pa": "deg"} | dict.fromkeys(
    ("disk_r50", "bulge_r50"), "arcsec"
)
"""Of columns that a file may have in another unit."""
IDS, PRIMARY = ("id", "source_id"), "is_primary"
"""What names a row, the first that there is; and false for copies in a catalog of this package."""

Columns = Mapping[str, NDArray[Any]]


def read_sky_table(path: str, what: str, more: str = "") -> Columns:
    """Read ``ra`` and ``dec`` in degrees, ``id`` if there is one, and more columns of numbers.

    Of a catalog of this package the primary rows, with their ``source_id`` as ``id``.

    Parameters
    ----------
    path
        Local or on s3: a table in one of `FORMATS`, a folder of such, in the order of their names,
        or the output of a run.  Names of columns in any case of letters.
    what
        What the table is called in messages.
    more
        Regular expression of those numbers' names; NaN where one is missing.

    Raises
    ------
    ConfigError
        If there is no such table, it lacks ``ra`` or ``dec``, or a value is of a wrong kind.
    """
    parts = [_read(file, what, re.compile(more)) for file in _files(path, what)]
    names: list[set[str]] = [set(part) for part in parts]
    if odd := names[0].union(*names) - names[0].intersection(*names):
        raise ConfigError(
            f"some of the tables in {path} have a column {min(odd)} and some have none"
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _files(path: str, what: str) -> list[str]:
    if path.lower().endswith(tuple(FORMATS)):
        return [path]
    shards = storage.list_files(storage.join(path, "catalog"), ".parquet")
    files = shards or [file for file in storage.list_files(path) if _format(file)]
    if not files:
        raise ConfigError(
            f"{path} holds no table of {what}; give a file or folder of {', '.join(FORMATS)}, or "
            "the output of a run"
        )
    return files


def _format(path: str) -> str | None:
    return next((FORMATS[end] for end in FORMATS if path.lower().endswith(end)), None)


def _read(path: str, what: str, more: re.Pattern[str]) -> Columns:
    where = f"the {what} {path}"
    columns = _columns(path, where)
    if missing := [name for name in ("ra", "dec") if name not in columns]:
        found = ", ".join(columns) or "none"
        raise ConfigError(f"{where} lack the column {missing[0]}; found are {found}")
    numbers = [name for name in columns if name in ("ra", "dec") or more.fullmatch(name)]
    read: dict[str, NDArray[Any]] = {name: _numbers(where, name, columns[name]) for name in numbers}
    if named := [name for name in IDS if name in columns]:
        read["id"] = _names(where, columns[named[0]])
    if PRIMARY in columns:
        own = np.asarray(columns[PRIMARY], dtype=bool)
        read = {name: values[own] for name, values in read.items()}
    return read


def _columns(path: str, where: str) -> Mapping[str, Column]:
    """Return all columns by their names in small letters."""
    try:
        packed = storage.read_bytes(path)
        if _format(path) == "parquet":
            read = tables.from_parquet(packed)
            table = Table({name: _column(read[name]) for name in read.column_names})
        else:
            plain = gzip.decompress(packed) if path.endswith(".gz") else packed
            table = Table.read(BytesIO(plain), format=_format(path))
    except (*storage.READ_ERRORS, *UNREADABLE) as error:
        raise ConfigError(f"{where} cannot be read: {storage.explain(error)}") from error
    return {name.lower(): table[name] for name in table.colnames}


def _column(read: pa.ChunkedArray) -> np.ma.MaskedArray[Any, Any]:
    """Return a column of Parquet with its nulls masked; whole numbers stay whole."""
    missing = read.is_null().to_numpy()
    filled = read.fill_null("" if pa.types.is_string(read.type) else 0) if missing.any() else read
    return np.ma.MaskedArray(filled.to_numpy(), mask=missing)


def _numbers(where: str, name: str, column: Column) -> NDArray[np.float64]:
    """Return a column of numbers in its unit of `UNITS`, NaN where one is missing."""
    unit = UNITS.get(name, "")
    if not np.issubdtype(column.dtype, np.number):
        raise ConfigError(f"{name} of {where} must be {f'in {unit}, as ' if unit else ''}numbers")
    values = np.ma.filled(np.ma.asarray(column).astype(np.float64), np.nan)
    own = getattr(column, "unit", None)
    return np.asarray(values if own is None or not unit else (values * own).to_value(unit))


def _names(where: str, column: Column) -> NDArray[np.str_]:
    """Return what the rows are called."""
    values = np.ma.asarray(column)
    missing = np.flatnonzero(np.ma.getmaskarray(values))
    if len(missing):
        raise ConfigError(f"row {missing[0]} of {where} has no id")
    return np.array([str(value) for value in values.tolist()], dtype=np.str_)
