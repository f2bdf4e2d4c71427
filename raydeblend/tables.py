"""Tables as Parquet and CSV, bytes in and out: the one module that lets Arrow read or write them.

Arrow reads ahead with threads of its own, which outlive the call that started them and now and then
the interpreter.  A thread that then lets go of memory or a file of Python's asks for an interpreter
that is gone, and the process aborts with "terminate called without an active exception".  So Arrow
is given its own copy of the bytes and nothing of Python's, and reads in the thread that asks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

COMPRESSION = "zstd"


def to_parquet(table: pa.Table) -> bytes:
    """Return a Parquet file of `table`, with checksums; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    said = _with_lengths(table)
    parquet.write_table(said, sink, compression=COMPRESSION, write_page_checksum=True)
    return bytes(sink.getvalue().to_pybytes())


def _with_lengths(table: pa.Table) -> pa.Table:
    """Say how long the strings of each column are: astropy warns where it has to look itself."""
    texts = [field.name for field in table.schema if pa.types.is_string(field.type)]
    longest = {name: pc.max(pc.utf8_length(table[name])).as_py() or 1 for name in texts}
    lengths = {f"table::len::{name}": str(n) for name, n in longest.items()}
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **lengths})


def described(schema: pa.Schema) -> pa.Schema:
    """Return a schema with its fields' units and descriptions where astropy's Table.read looks."""
    rows = []
    for field in schema:
        said = {key.decode(): text.decode() for key, text in (field.metadata or {}).items() if text}
        rows.append(
            {"name": field.name} | {k: said[k] for k in ("description", "unit") if k in said}
        )
    # JSON is YAML too.
    return schema.with_metadata({"table_meta_yaml": json.dumps({"datatype": rows})})


def schema_to_parquet(schema: pa.Schema) -> bytes:
    """Return a Parquet file of no rows that says a schema."""
    sink = pa.BufferOutputStream()
    parquet.write_metadata(schema, sink)
    return bytes(sink.getvalue().to_pybytes())


def sorted_parquet(table: pa.Table, by: Sequence[str], **options: Any) -> bytes:
    """Return a Parquet file of a table that is sorted by some columns, and says so."""
    order = parquet.SortingColumn.from_ordering(table.schema, [(name, "ascending") for name in by])
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink, sorting_columns=order, **options)
    return bytes(sink.getvalue().to_pybytes())


def from_parquet(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file, or some of its columns.

    Raises
    ------
    pyarrow.ArrowInvalid
        If the bytes are not a whole Parquet file, or a checksum tells that data changed.
    """
    try:
        file = parquet.ParquetFile(_owned(data), pre_buffer=False, page_checksum_verification=True)
        table = file.read(columns, use_threads=False)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        # Of bytes in memory an OSError, too, tells that they are damaged.
        raise pa.ArrowInvalid(str(error)) from error
    return table


def from_csv(data: bytes, types: pa.Schema) -> pa.Table:
    """Read a CSV file; columns that `types` has are read as it says, from the start.

    Raises
    ------
    pyarrow.ArrowInvalid
        If the bytes are no such table.
    """
    said = csv.ConvertOptions(column_types=types)
    serial = csv.ReadOptions(use_threads=False)
    return csv.read_csv(_owned(data), read_options=serial, convert_options=said)


def _owned(data: bytes) -> pa.BufferReader:
    """Return a reader of a copy that belongs to Arrow."""
    copy = pa.BufferOutputStream()
    copy.write(data)
    return pa.BufferReader(copy.getvalue())
