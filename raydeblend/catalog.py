"""The catalog's columns: names, types, units and descriptions, and rows to Parquet and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from raydeblend import storage, tables
from raydeblend.errors import ConfigError
from raydeblend.ucds import ucd_of


@dataclass(frozen=True)
class Column:
    """One column; `unit` is as in the VOUnits standard, empty for none."""

    name: str
    type: pa.DataType
    unit: str
    description: str

    @property
    def ucd(self) -> str:
        """What it is in the words of the virtual observatory."""
        return ucd_of(self.name)

    @property
    def field(self) -> pa.Field:
        """The column as a Parquet field; a float may be null, where it could not be measured."""
        metadata = {"unit": self.unit, "description": self.description, "ucd": self.ucd}
        nullable = pa.types.is_floating(self.type)
        return pa.field(self.name, self.type, nullable=nullable, metadata=metadata)


_IDENTITY = (
    Column("source_id", pa.int64(), "", "identifies the source; from its tile and peak pixel"),
    Column("tile", pa.string(), "", "name of the tile"),
    Column("cell", pa.string(), "", "name of the cell that measured the source"),
    Column("parent_id", pa.int64(), "", "identifies the footprint the source was found in"),
    Column("input_id", pa.string(), "", "id in the table of --positions; empty without one"),
    Column("n_blended", pa.int16(), "", "number of sources in the footprint"),
    Column("ra", pa.float64(), "deg", "right ascension, ICRS"),
    Column("dec", pa.float64(), "deg", "declination, ICRS"),
    Column("x", pa.float64(), "pix", "column in the tile, 0 at the center of the first pixel"),
    Column("y", pa.float64(), "pix", "row in the tile, 0 at the center of the first pixel"),
    Column("ra_err", pa.float32(), "arcsec", "standard error of ra, times cos(dec)"),
    Column("dec_err", pa.float32(), "arcsec", "standard error of dec"),
    Column("ra_dec_cov", pa.float32(), "arcsec2", "covariance of ra, times cos(dec), and dec"),
    Column("is_primary", pa.bool_(), "", "false for a copy in a tile that does not own the place"),
)

RESPONSE = ("R11", "R22", "R12")
"""Columns of the response to shear."""

_SHAPE = (
    Column("snr", pa.float32(), "", "fluxes over their errors, the bands added in quadrature"),
    Column(
        "r50",
        pa.float32(),
        "arcsec",
        "half-light radius of the whole model before the PSF, bands summed, circularized",
    ),
    Column(
        "T",
        pa.float32(),
        "arcsec2",
        "Ixx + Iyy of an exponential disk of half-light radius r50 and shear g1, g2, before the"
        " PSF",
    ),
    Column("T_err", pa.float32(), "arcsec2", "standard error of T"),
    Column("g1", pa.float32(), "", "reduced shear along the x axis, before the PSF"),
    Column("g2", pa.float32(), "", "reduced shear at 45 degrees to the x axis, before the PSF"),
    Column("g1_err", pa.float32(), "", "standard error of g1"),
    Column("g2_err", pa.float32(), "", "standard error of g2"),
    Column("R11", pa.float32(), "", "response of g1 to a shear along the x axis"),
    Column("R22", pa.float32(), "", "response of g2 to a shear at 45 degrees to the x axis"),
    Column("R12", pa.float32(), "", "response of g1 to the shear of g2, and of g2 to that of g1"),
    Column("chi2", pa.float32(), "", "chi squared of the model per degree of freedom"),
)

PROFILE = ("disk_r50", "disk_n", "disk_q", "disk_pa", "bulge_r50", "bulge_q", "bulge_pa")
"""Columns that say, with `bulge_fraction_<band>`, what a model is on the sky before the PSF."""

_PROFILE = (
    Column(
        "disk_r50",
        pa.float32(),
        "arcsec",
        "half-light radius of the model's disk before the PSF, circularized; this and the next six"
        " columns are null for models without disk and bulge",
    ),
    Column("disk_n", pa.float32(), "", "Sersic index of the disk"),
    Column("disk_q", pa.float32(), "", "axis ratio of the disk on the sky, minor over major"),
    Column("disk_pa", pa.float32(), "deg", "position angle of the disk, from north through east"),
    Column(
        "bulge_r50",
        pa.float32(),
        "arcsec",
        "half-light radius of the model's de Vaucouleurs bulge before the PSF, circularized",
    ),
    Column("bulge_q", pa.float32(), "", "axis ratio of the bulge on the sky, minor over major"),
    Column("bulge_pa", pa.float32(), "deg", "position angle of the bulge, from north through east"),
)

_PROVENANCE = (
    Column(
        "p_star",
        pa.float32(),
        "",
        "probability of being a star, from width beyond the PSF, magnitude and, with g, r and i,"
        " colors",
    ),
    Column("model", pa.string(), "", "profile that was fitted"),
    Column("photometry", pa.string(), "", "what measured it: joint, ngmix or mixture"),
    Column("deblender", pa.string(), "", "deblender that separated the sources"),
    Column("quality", pa.string(), "", "deblending: isolated, high, medium, low or none"),
    Column("blendedness", pa.float32(), "", "1 - sum I_k^2 / sum(I_k sum I); Bosch et al. 2018"),
    Column(
        "p_unrecognized_blend",
        pa.float32(),
        "",
        "probability that another true source, of at least a tenth of the flux in the reddest band,"
        " lies within 0.8 arcsec, nearest to this source, and is not in the catalog",
    ),
    Column(
        "disagreement",
        pa.float32(),
        "",
        "root mean square over the bands of the difference, in errors, between the flux and that"
        " of the run's second opinion; null where there was none",
    ),
    Column(
        "p_bad",
        pa.float32(),
        "",
        "probability that the flux in i, or else the last band, is off by more than 5 errors and"
        " by more than 20 %",
    ),
    Column("flags", pa.int32(), "", "bits of raydeblend.flags.Flag"),
)


def columns(bands: Sequence[str]) -> tuple[Column, ...]:
    """Return the columns of a catalog in `bands`, in order."""
    fluxes = (column for band in bands for column in _flux_columns(band))
    pairs = (_covariance_column(*pair) for pair in combinations(bands, 2))
    return (*_IDENTITY, *fluxes, *pairs, *_SHAPE, *_PROFILE, *_PROVENANCE)


def _flux_columns(band: str) -> tuple[Column, ...]:
    return (
        Column(f"flux_{band}", pa.float32(), "nJy", f"total flux of the model in {band}"),
        Column(f"flux_err_{band}", pa.float32(), "nJy", f"standard error of flux_{band}"),
        Column(
            f"flux_psf_{band}",
            pa.float32(),
            "nJy",
            f"flux of the PSF at the source in {band}, neighbors taken out: that of a star",
        ),
        Column(
            f"flux_psf_err_{band}",
            pa.float32(),
            "nJy",
            f"standard error of flux_psf_{band} from the noise of the pixels",
        ),
        Column(
            f"bulge_fraction_{band}",
            pa.float32(),
            "",
            f"part of flux_{band} in a de Vaucouleurs bulge; null for models without one",
        ),
        Column(
            coverage_name(band),
            pa.float32(),
            "",
            f"part of the model's light, all bands together, on pixels that are usable in {band}",
        ),
    )


def _covariance_column(first: str, second: str) -> Column:
    return Column(
        covariance_name(first, second),
        pa.float32(),
        "nJy2",
        f"covariance of flux_{first} and flux_{second}",
    )


def covariance_name(first: str, second: str) -> str:
    """Return the name of the covariance of the fluxes in two bands, in the catalog's order."""
    return f"flux_cov_{first}_{second}"


def coverage_name(band: str) -> str:
    """Return the name of the column that tells how much of a source a band has seen."""
    return f"coverage_{band}"


ADDED = (
    re.compile(r"ra_err|dec_err|ra_dec_cov|flux_psf_.+|bulge_fraction_.+|flux_cov_.+|r50|p_star"),
    re.compile(r"coverage_.+|R11|R22|R12"),
    re.compile(r"disagreement|p_bad|input_id"),
    re.compile("|".join(PROFILE)),
)
"""Columns that early versions did not write, one addition after the other; numbers may be null,
words are empty."""


def with_added_columns(table: pa.Table) -> pa.Table:
    """Return an early version's shard with the columns that were added since, without values.

    A table that has only some of an addition, or lacks another column, is returned as it is.
    """
    names = table.column_names
    prefix = "flux_err_"
    bands = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    wanted = schema(bands)
    if names not in _early_names(wanted.names):
        return table
    nothing = [
        table[field.name].cast(field.type)
        if field.name in names
        else _nothing(field.type, table.num_rows)
        for field in wanted
    ]
    return pa.Table.from_arrays(nothing, schema=wanted)


def _nothing(kind: pa.DataType, n: int) -> pa.Array:
    # astropy reads no word that is null.
    return pa.array([""] * n, kind) if pa.types.is_string(kind) else pa.nulls(n, kind)


def _early_names(names: Sequence[str]) -> list[list[str]]:
    """Return the columns of each version that did not write all."""
    return [
        [name for name in names if not any(added.fullmatch(name) for added in ADDED[first:])]
        for first in range(len(ADDED))
    ]


def schema(bands: Sequence[str]) -> pa.Schema:
    """Return the Parquet schema of a catalog in `bands`."""
    return schema_of(columns(bands))


def schema_of(described: Sequence[Column]) -> pa.Schema:
    """Return the Parquet schema of any columns, as astropy reads it too."""
    return tables.described(pa.schema([column.field for column in described]))


def to_table(rows: Mapping[str, ArrayLike], bands: Sequence[str]) -> pa.Table:
    """Return a table of the catalog's schema.

    Parameters
    ----------
    rows
        One array ``(n,)`` per column; a NaN becomes null.
    bands
        The bands of the flux columns.

    Raises
    ------
    KeyError
        If a column is missing.
    """
    return table_of(rows, schema(bands))


def table_of(rows: Mapping[str, ArrayLike], fields: pa.Schema) -> pa.Table:
    """Return a table of any schema, as `to_table`."""
    arrays = [_to_array(rows[field.name], field.type) for field in fields]
    return pa.Table.from_arrays(arrays, schema=fields)


def _to_array(values: ArrayLike, kind: pa.DataType) -> pa.Array:
    array = np.asarray(values)
    if not array.size:
        # Nothing is of no type: NumPy calls it float64.
        return pa.array([], kind)
    mask = np.isnan(array) if pa.types.is_floating(kind) else None
    return pa.array(array, kind, mask=mask)


def to_bytes(table: pa.Table) -> bytes:
    """Return a Parquet file of `table`; equal tables give equal bytes."""
    return tables.to_parquet(table)


def from_bytes(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one shard, plan or ledger table, or some columns of it.

    Raises
    ------
    pyarrow.ArrowInvalid
        If the bytes are not a whole Parquet file.
    """
    return tables.from_parquet(data, columns)


def read_shard(path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the shard in a file, or some columns that shards have always had.

    See `with_added_columns` for those of early versions.

    Raises
    ------
    FileNotFoundError
        If there is none.
    pyarrow.ArrowInvalid
        If it is damaged.
    """
    table = from_bytes(storage.read_bytes(path), columns)
    # Early versions wrote names of tiles as dictionaries.
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    table = table.cast(pa.schema(fields, metadata=table.schema.metadata))
    return with_added_columns(table) if columns is None else table


def read_catalog(out: str) -> pa.Table:
    """Read all shards under ``out/catalog``, local or on s3, in order of their paths.

    Raises
    ------
    ConfigError
        If there is none, or one of them is damaged.
    """
    shards = sorted(storage.list_files(storage.join(out, "catalog"), ".parquet"))
    if not shards:
        raise ConfigError(f"{out} holds no catalog: there is no shard under {out}/catalog")
    return pa.concat_tables([_read_whole(path) for path in shards])


def _read_whole(path: str) -> pa.Table:
    try:
        return read_shard(path)
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
