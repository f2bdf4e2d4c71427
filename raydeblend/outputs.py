"""Results that are there already: they are replaced only if that is asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence

from raydeblend import storage
from raydeblend.errors import ConfigError

NAMED = 3
"""Files that a message names."""


def refuse_earlier(out: str, found: Sequence[str], overwrite: bool) -> None:
    """Refuse to write where results were `found`, unless they may be overwritten.

    Raises
    ------
    ConfigError
        Naming some of them.
    """
    if not found or overwrite:
        return
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    names = ", ".join(os.path.basename(path) for path in found[:NAMED]) + more
    raise ConfigError(
        f"{out} holds {names} already; give --overwrite to replace them, or choose another location"
    )


def files_in(folder: str) -> list[str]:
    """Return the files of a folder, local or on s3, without those of folders below it."""
    root = storage.absolute(folder)
    return [path for path in storage.list_files(root) if storage.parent(path) == root]
