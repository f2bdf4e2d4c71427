"""Which files belong to which tile and band, by pattern or by manifest; none is opened here."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import pyarrow as pa
from pyarrow import csv, parquet

from raydeblend import storage
from raydeblend.errors import ConfigError

MANIFEST_COLUMNS = ("tile", "band", "image")


@dataclass(frozen=True)
class Source:
    """The image of one tile in one band and, if it has one, its PSF file."""

    image: str
    psf: str | None


Sources = dict[str, dict[str, Source]]
"""Tile name to band name to files."""


def match_patterns(
    root: str, bands: tuple[str, ...], image_pattern: str, psf_pattern: str
) -> Sources:
    """Sort the files below `root` by tile and band.

    A pattern is a path relative to `root` with ``{tile}`` (within one folder) and ``{band}``
    (one of `bands`, so that a PSF file is not mistaken for an image).

    Raises
    ------
    ConfigError
        If the image pattern lacks a placeholder or matches no file.
    """
    regex = compile_pattern(image_pattern, bands)
    base = storage.join(storage.absolute(root), "")
    files = storage.list_files(root)
    known = set(files)
    found: Sources = {}
    for path in files:
        match = regex.fullmatch(path.removeprefix(base))
        if match:
            tile, band = match["tile"], match["band"]
            psf = base + psf_pattern.replace("{tile}", tile).replace("{band}", band)
            found.setdefault(tile, {})[band] = Source(path, psf if psf in known else None)
    if not found:
        raise ConfigError(
            f"{image_pattern!r} matches none of the {len(files)} files below {root} "
            f"in the bands {', '.join(bands)}"
        )
    return found


def compile_pattern(pattern: str, bands: tuple[str, ...]) -> re.Pattern[str]:
    """Turn a pattern such as ``{tile}_{band}.fits`` into a regular expression.

    Raises
    ------
    ConfigError
        If ``{tile}`` or ``{band}`` is missing.
    """
    groups = {"{tile}": "[^/]+", "{band}": "|".join(re.escape(band) for band in bands)}
    regex = ""
    for part in re.split(r"(\{tile\}|\{band\})", pattern):
        name = part[1:-1]
        if part not in groups:
            regex += re.escape(part)
        elif f"(?P<{name}>" in regex:
            regex += f"(?P={name})"
        else:
            regex += f"(?P<{name}>{groups[part]})"
    if "(?P<tile>" not in regex or "(?P<band>" not in regex:
        raise ConfigError(f"the image pattern {pattern!r} must hold {{tile}} and {{band}}")
    return re.compile(regex)


def read_manifest(root: str, manifest: str, bands: tuple[str, ...]) -> Sources:
    """Read a Parquet or CSV table with columns tile, band, image and optionally psf.

    Relative paths in it start at `root`; rows of other bands are left out.

    Raises
    ------
    ConfigError
        If the table cannot be read, lacks a column or value, names one image twice, or has no
        row in `bands`.
    """
    found: Sources = {}
    for row in _read_table(manifest).to_pylist():
        tile, band, image = (row[name] for name in MANIFEST_COLUMNS)
        if not (tile and band and image):
            raise ConfigError(f"{manifest} has a row without tile, band or image")
        if band in found.get(tile, {}):
            raise ConfigError(f"{manifest} names tile {tile!r} in band {band!r} twice")
        if band in bands:
            psf = _below(root, row["psf"]) if row.get("psf") else None
            found.setdefault(tile, {})[band] = Source(_below(root, image), psf)
    if not found:
        raise ConfigError(f"{manifest} lists no tile in the bands {', '.join(bands)}")
    return found


def _read_table(manifest: str) -> pa.Table:
    """Read the manifest with its columns as text."""
    if not storage.exists(manifest):
        raise ConfigError(f"there is no manifest {manifest}")
    data = io.BytesIO(storage.read_bytes(manifest))
    names = (*MANIFEST_COLUMNS, "psf")
    # As text from the start: a tile called 0013 must not become the number 13.
    as_text = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    try:
        is_csv = manifest.endswith(".csv")
        table = csv.read_csv(data, convert_options=as_text) if is_csv else parquet.read_table(data)
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{manifest} is not a Parquet or CSV table: {error}") from error
    missing = [name for name in MANIFEST_COLUMNS if name not in table.column_names]
    if missing:
        raise ConfigError(f"{manifest} has no column {missing[0]!r}; it needs tile, band, image")
    present = [name for name in names if name in table.column_names]
    return table.select(present).cast(pa.schema([(name, pa.string()) for name in present]))


def _below(root: str, path: str) -> str:
    if path.startswith("/") or storage.is_s3(path):
        return path
    return storage.join(storage.absolute(root), path)
