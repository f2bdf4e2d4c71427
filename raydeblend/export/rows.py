"""The rows of a catalog for single files, read once it is known that these may be written."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from raydeblend import access, catalog, storage
from raydeblend.errors import ConfigError
from raydeblend.export.source import Source, read_source
from raydeblend.outputs import refuse_earlier

MOST_ROWS = 50_000_000
"""Largest number of rows in one file; at some 200 bytes a row they take 10 GB of memory."""


def rows_for(
    paths: Sequence[str], outs: str | Sequence[str], *, all_rows: bool, overwrite: bool
) -> tuple[Source, pa.Table]:
    """Return the catalogs that are exported to the files `paths`, and their rows.

    Parameters
    ----------
    paths
        All in one folder, local or on s3.
    outs
        The catalog, or several parts of a survey.
    all_rows
        Whether the copies of sources in overlapping tiles are exported too.
    overwrite
        Whether files that are there may be replaced.

    Raises
    ------
    ConfigError
        If one of `outs` holds no catalog, they are not of one configuration or too large for a
        file, a shard is damaged, or a file is there and not to be replaced.
    """
    source = read_source(outs, even_empty=True)
    access.check_file_writable(paths[0])
    found = [path for path in paths if storage.exists(path)]
    refuse_earlier(storage.parent(paths[0]), found, overwrite)
    return source, _read(source, all_rows)


def _read(source: Source, all_rows: bool) -> pa.Table:
    rows = pa.concat_tables([catalog.read_catalog(out) for out in source.outs])
    if not all_rows:
        rows = rows.filter(pc.field("is_primary"))
    if rows.num_rows > MOST_ROWS:
        raise ConfigError(
            f"{source} has {rows.num_rows} rows, too many for one file; "
            "use `raydeblend export hats`"
        )
    return rows
