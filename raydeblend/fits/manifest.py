"""Manifests: which files belong to which tile and band, and what their headers say, as a table.

A survey of 37,000 tiles is planned from one in seconds.  Every run writes that of its tiles to
``OUT/tiles.parquet``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import pyarrow as pa

from raydeblend import catalog, storage, tables
from raydeblend.errors import ConfigError
from raydeblend.fits.inputs import Grid, Source, Sources
from raydeblend.fits.layouts import NATIVE, find_layout, make_layout
from raydeblend.paths import is_url
from raydeblend.tile import TileHeader

NEEDED = ("tile", "band", "image")
HEADER = ("rows", "columns", "wcs", "njy_per_count")
"""Together they stand for opening a file."""
SCHEMA = pa.schema(
    {
        "tile": pa.string(),
        "band": pa.string(),
        "image": pa.string(),
        "psf": pa.string(),
        "rows": pa.int64(),
        "columns": pa.int64(),
        "wcs": pa.string(),
        "njy_per_count": pa.float64(),
        "mask": pa.string(),
        "noise": pa.string(),
        "layout": pa.string(),
        "stamp": pa.string(),
    }
)
LATER = {"mask": None, "noise": None, "layout": NATIVE}
"""What columns mean that manifests of earlier versions lack."""


def read_manifest(root: str, manifest: str, bands: tuple[str, ...]) -> Sources:
    """Read a Parquet or CSV table with columns tile, band, image and optionally psf.

    Relative paths in it start at `root`; rows of other bands are left out.  Where a row also has
    rows, columns, wcs (FITS cards) and njy_per_count (57.544 at zero point 27), its file is not
    opened for the plan.  Columns mask and noise name files of their own, and layout how all of
    them are read: a shipped one, FILE.yaml, or the text of one; without it as native.

    Raises
    ------
    ConfigError
        If the table cannot be read, lacks a column or value, names one image twice, or has no
        row in `bands`.
    """
    found: Sources = {}
    for row in _read_table(manifest).to_pylist():
        tile, band, image = (row[name] for name in NEEDED)
        if not (tile and band and image):
            raise ConfigError(f"{manifest} has a row without tile, band or image")
        if band in found.get(tile, {}):
            raise ConfigError(f"{manifest} names tile {tile!r} in band {band!r} twice")
        if band in bands:
            found.setdefault(tile, {})[band] = _source(root, row)
    if not found:
        raise ConfigError(f"{manifest} lists no tile in the bands {', '.join(bands)}")
    return found


def _source(root: str, row: Mapping[str, Any]) -> Source:
    mask, noise = (_below(root, row[name]) if row.get(name) else None for name in ("mask", "noise"))
    psfs = [_below(root, path) for path in (row.get("psf") or "").split("\n") if path]
    grid = None
    if all(row.get(name) for name in HEADER):
        grid = Grid((row["rows"], row["columns"]), row["wcs"], row["njy_per_count"])
    image, psf = _below(root, row["image"]), "\n".join(psfs) or None
    stamp, layout = row.get("stamp") or "", _layout_key(row.get("layout") or NATIVE)
    return Source(image, psf, grid, stamp, mask, noise, layout)


@cache
def _layout_key(layout: str) -> str:
    """Return the key of what a column says; a text in place of a name has several lines."""
    return make_layout(layout).key if "\n" in layout else find_layout(layout).key


def _read_table(manifest: str) -> pa.Table:
    """Read the manifest with its columns as `SCHEMA` has them."""
    if not storage.exists(manifest):
        raise ConfigError(f"there is no manifest {manifest}")
    data = storage.read_bytes(manifest)
    try:
        # As text from the start: a tile called 0013 must not become the number 13.
        is_csv = manifest.endswith(".csv")
        table = tables.from_csv(data, SCHEMA) if is_csv else tables.from_parquet(data)
        missing = [name for name in NEEDED if name not in table.column_names]
        if not missing:
            present = [field for field in SCHEMA if field.name in table.column_names]
            return table.select([field.name for field in present]).cast(pa.schema(present))
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{manifest} is not a Parquet or CSV table: {error}") from error
    raise ConfigError(f"{manifest} has no column {missing[0]!r}; it needs tile, band, image")


def _below(root: str, path: str) -> str:
    if path.startswith("/") or is_url(path):
        return storage.absolute(path)
    return storage.join(storage.absolute(root), path)


def to_manifest(headers: Iterable[TileHeader]) -> pa.Table:
    """Return the manifest of planned tiles, headers included, a row per tile and band."""
    rows = [
        {
            "tile": header.name,
            "band": file.band,
            "image": file.image,
            "psf": file.psf,
            "rows": header.shape[0],
            "columns": header.shape[1],
            "wcs": header.wcs,
            "njy_per_count": file.njy_per_count,
            "mask": file.mask,
            "noise": file.noise,
            "layout": file.layout,
            "stamp": file.stamp,
        }
        for header in headers
        for file in header.files
        if file is not None
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def write_manifest(path: str, table: pa.Table) -> None:
    """Write a manifest as Parquet."""
    storage.write_bytes(path, catalog.to_bytes(table))


def changed_tiles(earlier: pa.Table, later: pa.Table) -> list[str]:
    """Return the tiles of which a file was known before and is gone, other or changed.

    A file's stamp counts only where both manifests know it.
    """
    before, after = _files(earlier), _files(later)
    changed = {
        tile for (tile, band), files in before.items() if _differ(files, after.get((tile, band)))
    }
    return sorted(changed)


def new_tiles(earlier: pa.Table, later: pa.Table) -> list[str]:
    """Return the tiles of which a file is known that was not before."""
    return sorted({tile for tile, _ in _files(later).keys() - _files(earlier).keys()})


def _files(manifest: pa.Table) -> dict[tuple[str, str], tuple[Any, ...]]:
    columns = [
        manifest[name].to_pylist()
        if name in manifest.column_names
        else [LATER[name]] * manifest.num_rows
        for name in SCHEMA.names
    ]
    return {(row[0], row[1]): row[2:] for row in zip(*columns, strict=True)}


def _differ(before: tuple[Any, ...], after: tuple[Any, ...] | None) -> bool:
    if after is None or before[:-1] != after[:-1]:
        return True
    return bool(before[-1] and after[-1] and before[-1] != after[-1])
