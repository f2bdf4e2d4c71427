"""The injected sources of a finished run, all cells together."""

from __future__ import annotations

import pyarrow as pa

from raydeblend import storage, tables
from raydeblend.errors import ConfigError

FOLDER = "injected"
"""Below a run's output."""


def read_injected(out: str) -> pa.Table:
    """Read all tables of injected sources below an output, see `raydeblend.inject.table`.

    Raises
    ------
    ConfigError
        If there is none, or one is damaged.
    """
    paths = sorted(storage.list_files(storage.join(out, FOLDER), ".parquet"))
    if not paths:
        raise ConfigError(f"{out} holds no injected sources; make it with catalog --inject DENSITY")
    return pa.concat_tables([_read(path) for path in paths])


def _read(path: str) -> pa.Table:
    try:
        return tables.from_parquet(storage.read_bytes(path))
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
