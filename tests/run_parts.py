"""A finished run as if it had been made in two parts."""

import shutil
from collections.abc import Callable
from pathlib import Path

from raydeblend.pipeline.entries import entry_path
from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.shards import cell_files


def in_two_parts(out: str, folder: Path, is_first: Callable[[str, str], bool]) -> list[str]:
    """Copy a run twice and leave each cell in one copy, chosen by its tile and name."""
    parts = [str(folder / name) for name in ("part1", "part2")]
    for part, first in zip(parts, (True, False), strict=True):
        shutil.copytree(out, part)
        for entry in read_entries(part):
            if is_first(entry.tile, entry.cell) != first:
                for path in (
                    entry_path(part, entry.tile, entry.cell),
                    *cell_files(part, entry.tile, entry.cell),
                ):
                    Path(path).unlink(missing_ok=True)
    return parts
