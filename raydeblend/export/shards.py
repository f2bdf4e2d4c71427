"""The catalog's shards as hats-import reads them: in groups, whole rows.

This module needs the extra ``raydeblend[hats]``; hats-import's workers load it by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from hats_import.catalog.file_readers import InputReader

from raydeblend import catalog
from raydeblend.pipeline.shards import read_shard

PRIMARY = "is_primary"


class ShardReader(InputReader):  # type: ignore[misc]
    """Reads the shards that a text file names, one path a line, as one table.

    Parameters
    ----------
    bands
        The bands of the catalog.
    all_rows
        Whether copies of a source in overlapping tiles are kept.
    """

    def __init__(self, bands: Sequence[str], all_rows: bool) -> None:
        self.bands = tuple(bands)
        self.all_rows = all_rows

    def read(self, input_file: str, read_columns: list[str] | None = None) -> Iterator[pa.Table]:
        """Yield the rows of a group of shards, nothing if it has none.

        Raises
        ------
        pyarrow.ArrowInvalid, OSError
            If a shard cannot be read.
        """
        schema = catalog.schema(self.bands)
        columns = read_columns or schema.names
        paths = Path(input_file).read_text().split("\n")
        tables = [self._rows(path, columns, schema) for path in paths]
        table = pa.concat_tables(tables)
        if table.num_rows:
            yield table

    def _rows(self, path: str, columns: list[str], schema: pa.Schema) -> pa.Table:
        try:
            table = read_shard(path)
        except pa.ArrowInvalid as error:
            raise pa.ArrowInvalid(f"{path} cannot be read: {error}") from error
        missing = [name for name in schema.names if name not in table.column_names]
        if missing:
            raise pa.ArrowInvalid(f"{path} cannot be read: it has no column {missing[0]}")
        if not self.all_rows:
            table = table.filter(pc.field(PRIMARY))
        wanted = pa.schema([schema.field(name) for name in columns])
        return table.select(columns).cast(wanted).replace_schema_metadata()
