"""Positions on the sky at which a user wants sources measured: a table of ra, dec and ids."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class SkyPositions:
    """n positions in degrees (ICRS), and what each is called.

    Attributes
    ----------
    names
        ``(n,)``; the number of the row where the table has no column ``id``.
    sha256
        Of all that they say.
    """

    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    names: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.ra)

    @property
    def sha256(self) -> str:
        """Hash of positions and names."""
        digest = hashlib.sha256(self.ra.tobytes() + self.dec.tobytes())
        digest.update("\n".join(self.names.tolist()).encode())
        return digest.hexdigest()


def read_positions(path: str) -> SkyPositions:
    """Read a table of positions, or all tables in a folder in the order of their names.

    Parameters
    ----------
    path
        Local or on s3; Parquet, FITS, CSV, ECSV or VOTable with columns ``ra``, ``dec`` and maybe
        ``id``, in any case of letters.

    Raises
    ------
    ConfigError
        If there is no such table, or it lacks a column, has no row, a value that is no position
        on the sky, or an id twice.
    """
    whole = path.lower().endswith(tuple(FORMATS))
    files = [path] if whole else [f for f in storage.list_files(path) if _format(f)]
    if not files:
        raise ConfigError(
            f"{path} holds no table of positions; give a file or folder of {', '.join(FORMATS)}"
        )
    parts = [_read(file) for file in files]
    if len({len(part) for part in parts}) > 1:
        raise ConfigError(f"some of the tables in {path} have a column id and some have none")
    ra, dec = (np.concatenate([part[i] for part in parts]).astype(np.float64) for i in (0, 1))
    named = len(parts[0]) > 2
    names = np.concatenate([part[2] for part in parts]) if named else np.arange(len(ra))
    positions = SkyPositions(ra, dec, names.astype(np.str_))
    _check(path, positions)
    return positions


def _format(path: str) -> str | None:
    return next((FORMATS[end] for end in FORMATS if path.lower().endswith(end)), None)


def _read(path: str) -> Sequence[NDArray[np.generic]]:
    """Return ra, dec and, if there is one, id."""
    try:
        packed = storage.read_bytes(path)
        if _format(path) == "parquet":
            read = tables.from_parquet(packed)
            table = Table({name: _column(read[name]) for name in read.column_names})
        else:
            plain = gzip.decompress(packed) if path.endswith(".gz") else packed
            table = Table.read(BytesIO(plain), format=_format(path))
        columns = {name.lower(): table[name] for name in table.colnames}
    except (*storage.READ_ERRORS, *UNREADABLE) as error:
        raise ConfigError(
            f"the positions {path} cannot be read: {storage.explain(error)}"
        ) from error
    if missing := [name for name in ("ra", "dec") if name not in columns]:
        found = ", ".join(columns) or "none"
        raise ConfigError(f"the positions {path} lack the column {missing[0]}; found are {found}")
    degrees = [_degrees(path, name, columns[name]) for name in ("ra", "dec")]
    return [*degrees, _names(path, columns["id"])] if "id" in columns else degrees


def _column(read: pa.ChunkedArray) -> np.ma.MaskedArray[Any, Any]:
    """Return a column of Parquet with its nulls masked; whole numbers stay whole."""
    missing = read.is_null().to_numpy()
    filled = read.fill_null("" if pa.types.is_string(read.type) else 0) if missing.any() else read
    return np.ma.MaskedArray(filled.to_numpy(), mask=missing)


def _degrees(path: str, name: str, column: Column) -> NDArray[np.float64]:
    """Return a coordinate in degrees, NaN where it is missing."""
    if not np.issubdtype(column.dtype, np.number):
        raise ConfigError(f"{name} of the positions {path} must be in degrees, as numbers")
    values = np.ma.filled(np.ma.asarray(column).astype(np.float64), np.nan)
    unit = getattr(column, "unit", None)
    return np.asarray(values if unit is None else (values * unit).to_value("deg"))


def _names(path: str, column: Column) -> NDArray[np.str_]:
    """Return what the positions are called."""
    values = np.ma.asarray(column)
    missing = np.flatnonzero(np.ma.getmaskarray(values))
    if len(missing):
        raise ConfigError(f"row {missing[0]} of the positions {path} has no id")
    return np.array([str(value) for value in values.tolist()], dtype=np.str_)


def _check(path: str, positions: SkyPositions) -> None:
    if not len(positions):
        raise ConfigError(f"the positions {path} have no row")
    wrong = ~((positions.ra >= 0) & (positions.ra < 360) & (np.abs(positions.dec) <= 90))
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ConfigError(
            f"row {first} of the positions {path} is not a position on the sky: "
            f"ra {positions.ra[first]}, dec {positions.dec[first]}; valid: "
            "0 to 360 and -90 to 90 degrees"
        )
    names, counts = np.unique(positions.names, return_counts=True)
    if (counts > 1).any():
        raise ConfigError(f"the positions {path} have the id {names[counts > 1][0]} twice")
