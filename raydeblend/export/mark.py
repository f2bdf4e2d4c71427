"""The mark of an export: folders without it are never replaced, others only as far as it says."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from raydeblend import storage
from raydeblend.errors import ConfigError

MARK = "raydeblend.json"
FORMAT = "hats"
NAMED = 3
"""Number of files that a message names."""


def write_mark(target: str, state: Mapping[str, object], files: Sequence[str] = ()) -> None:
    """Record which catalog is exported to `target` and, once finished, all its files."""
    base = storage.join(target, "")
    names = sorted(path.removeprefix(base) for path in files)
    content = {"export": FORMAT, **state, "files": names}
    storage.write_bytes(storage.join(target, MARK), json.dumps(content, indent=1).encode())


def remove_export(target: str) -> None:
    """Remove the export in `target`, if there is one.

    Raises
    ------
    ConfigError
        If it carries no mark of an export, or holds other files too; then nothing is removed.
    """
    found = storage.list_files(target)
    if not found:
        return
    base = storage.join(target, "")
    mark = storage.join(target, MARK)
    foreign = found
    if mark in found:
        record = read_mark(mark)
        foreign = [path for path in found if not _is_own(path.removeprefix(base), target, record)]
    if foreign:
        names = ", ".join(path.removeprefix(base) for path in foreign[:NAMED])
        more = f" and {len(foreign) - NAMED} more" if len(foreign) > NAMED else ""
        raise ConfigError(
            f"{target} cannot be replaced, since it holds files that are not an export's: "
            f"{names}{more}; move that away, or choose another location"
        )
    # The mark last: what a killed process leaves can be replaced.
    storage.remove_files([path for path in found if path != mark])
    storage.remove_files([mark])
    storage.remove_empty_folders(target)


def read_mark(path: str) -> Mapping[str, Any]:
    """Read what is exported, and its ``files`` if it is finished.

    Raises
    ------
    ConfigError
        If the file is not the mark of an export.
    """
    try:
        record = json.loads(storage.read_bytes(path))
        if record["export"] == FORMAT:
            return {**record, "files": frozenset(record["files"])}
    except (ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"{path} is not the mark of an export: {error}") from error
    raise ConfigError(f"{path} is not the mark of an export to {FORMAT}")


def _is_own(name: str, target: str, record: Mapping[str, Any]) -> bool:
    """Tell whether a file is part of an export: by name in a finished one, else by its folder."""
    if record["files"]:
        return name == MARK or name in record["files"]
    folder, below, _ = name.partition("/")
    catalog = target.rpartition("/")[2]
    # Catalog, and margin cache.
    is_part = folder == catalog or folder.startswith(f"{catalog}_")
    return is_part if below else name in (MARK, "collection.properties")
