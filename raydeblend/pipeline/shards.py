"""Where the shards of a catalog lie.

``OUT/catalog/of_tile=<tile>/cell=<cell>.parquet``: pandas, pyarrow, dask, polars, DuckDB and Spark
take a folder ``key=value`` for a column of its own, and guess its type from the value: ``0013`` is
a number to them, a day a date.  So the key is no column of the file, whose ``tile`` is the name as
it is.  Early versions called the folder ``tile=<tile>``, which none of these readers opened for
every name; such outputs are read where they are, and moved when a run goes on.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from raydeblend import catalog, storage
from raydeblend.inject.read import FOLDER as INJECTED
from raydeblend.parents import FOLDER as PARENTS

KEY, EARLIER_KEY = "of_tile=", "tile="
ENDINGS = {"models": ".parquet", "residual": ".fits", "segmentation": ".fits"}
"""Of the products that a run may save."""
FOLDERS = ("catalog", PARENTS, INJECTED, *ENDINGS)
"""Folders with a file for each cell, besides the ledger."""
TAKEN_AMISS = re.compile(r"__HIVE_DEFAULT_PARTITION__|[+-]?\d{19,}")
"""Values of folders that readers take for none at all, or fail at: integers too long for them."""
THREADS = 16

log = logging.getLogger(__name__)


def shard_path(out: str, tile: str, cell: str) -> str:
    """Return where a cell's rows lie; no tile name leads outside `out`."""
    return cell_path(out, "catalog", tile, cell)


def cell_path(out: str, product: str, tile: str, cell: str, ending: str = ".parquet") -> str:
    """Return where one of a cell's files lies, in the folder of its kind."""
    folder = KEY + _mark(quote_name(tile))
    return storage.join(out, product, folder, f"cell={quote(cell, safe='')}{ending}")


def injected_path(out: str, tile: str, cell: str) -> str:
    """Return where the table of what was injected into the copy of a cell lies."""
    return cell_path(out, INJECTED, tile, cell)


def parents_path(out: str, tile: str, cell: str) -> str:
    """Return where a cell's table of footprints lies."""
    return cell_path(out, PARENTS, tile, cell)


def _mark(value: str) -> str:
    # `quote` leaves no other name with a bare exclamation mark.
    return f"{value}!" if TAKEN_AMISS.fullmatch(value) else value


def quote_name(tile: str) -> str:
    """Return a tile's name as a part of a path; readers of `key=value` paths decode it."""
    return quote(tile, safe=" ,+")


def earlier_path(path: str) -> str:
    """Return where early versions wrote the shard that is now written to `path`."""
    *parts, folder, name = path.split("/")
    folder = EARLIER_KEY + folder.removeprefix(KEY).removesuffix("!")
    return "/".join([*parts, folder, name])


def _present_path(path: str) -> str:
    """Return where the shard that lies in `path` is written now."""
    *parts, folder, name = path.split("/")
    if not folder.startswith(EARLIER_KEY):
        return path
    return "/".join([*parts, KEY + _mark(folder.removeprefix(EARLIER_KEY)), name])


def product_path(out: str, product: str, tile: str, cell: str) -> str:
    """Return where a product of a cell lies, one of `ENDINGS`."""
    return cell_path(out, product, tile, cell, ENDINGS[product])


def cell_files(out: str, tile: str, cell: str) -> list[str]:
    """Return the paths of all files of a cell except its entry, the shard first."""
    saved = [product_path(out, product, tile, cell) for product in ENDINGS]
    return [place(out, tile, cell) for place in (shard_path, parents_path, injected_path)] + saved


def read_shard(path: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read the shard of a `shard_path`, wherever the version that wrote it put it.

    Of `columns`, if given, which shards have always had.

    Raises
    ------
    FileNotFoundError
        If there is none.
    pyarrow.ArrowInvalid
        If it is damaged.
    """
    try:
        return catalog.read_shard(path, columns)
    except FileNotFoundError:
        earlier = earlier_path(path)
        if not storage.exists(earlier):
            raise
        return catalog.read_shard(earlier, columns)


def list_shards(out: str) -> dict[str, str]:
    """Return the shards of a catalog: where each is and, by that, its size and time."""
    stamps = storage.list_stamps(storage.join(out, "catalog"))
    return {path: stamp for path, stamp in stamps.items() if path.endswith(".parquet")}


def cell_of(path: str) -> str:
    """Return the part of a shard's path that names tile and cell, whatever the root is called."""
    return "/".join(_present_path(path).split("/")[-2:])


def without_shard(out: str, cells: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those cells whose shard is not there, or empty."""
    there = {cell_of(path) for path, stamp in list_shards(out).items() if not _is_empty(stamp)}
    return {key for key in cells if cell_of(shard_path("", *key)) not in there}


def folders_of(config: Mapping[str, Any]) -> list[str]:
    """Return the folders, besides the catalog's, in which a run has a file for each cell.

    Those of early versions have no ``save`` in their configuration, nor tables of footprints.
    """
    return [PARENTS, *config["save"]] if "save" in config else []


def without_file(out: str, folder: str, cells: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return those cells that have no file in one of `folders_of`."""
    ending = ENDINGS.get(folder, ".parquet")
    there = {cell_of(path) for path in storage.list_files(storage.join(out, folder), ending)}
    return {key for key in cells if cell_of(cell_path("", folder, *key, ending)) not in there}


def is_whole(path: str) -> bool:
    """Tell whether a file is there and not empty."""
    try:
        return not _is_empty(storage.stamp(path))
    except FileNotFoundError:
        return False


def _is_empty(stamp: str) -> bool:
    return stamp.startswith("0:")


def move_shards(out: str) -> None:
    """Bring the shards that an early version wrote to where this one writes them."""
    earlier = [path for path in list_shards(out) if _present_path(path) != path]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(_move, earlier))


def _move(path: str) -> None:
    """Write a shard anew; only then is the old file removed."""
    try:
        table = catalog.read_shard(path)
    except pa.ArrowInvalid as error:
        log.warning("%s cannot be read, its cell is done again: %s", path, error)
        set_file_aside(path)
        return
    storage.write_bytes(_present_path(path), catalog.to_bytes(table))
    storage.remove_files([path])


def set_file_aside(path: str) -> None:
    """Give a damaged file the ending ``.damaged``, so that it is kept but taken for nothing."""
    storage.write_bytes(f"{path}.damaged", storage.read_bytes(path))
    storage.remove_files([path])
