"""What has been done: the ledger of cells, the run's description, and where all files lie.

A cell's shard is written before its ledger entry, both whole or not at all, under names that the
cell alone decides.  So an entry ``done`` means that the shard is there, and a cell that two
workers do by accident gives the same shard twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import quote

from raydeblend import storage
from raydeblend.errors import ConfigError

RUN_FILE = "run.json"
PLAN_FAILURE = "plan.json"


@dataclass(frozen=True)
class LedgerEntry:
    """The outcome of one cell, or of a whole tile that could not be planned (`cell` is empty).

    Attributes
    ----------
    status
        ``done`` or ``failed``.
    reason
        Why it failed; empty if done.
    sources, blends, parents
        Rows of the shard, and how many footprints they came from, blended ones and all.
    seconds
        Wall time per stage.
    peak_memory_mb
        Largest resident memory, in MiB, of the processes that worked on the cell.
    """

    tile: str
    cell: str
    status: str
    reason: str = ""
    sources: int = 0
    blends: int = 0
    parents: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mb: float = 0.0
    weights_hash: str = ""
    config_hash: str = ""

    @property
    def done(self) -> bool:
        """Whether the cell's shard is complete."""
        return self.status == "done"

    @property
    def key(self) -> tuple[str, str]:
        """Tile and cell."""
        return self.tile, self.cell


@dataclass(frozen=True)
class Run:
    """What a run is: written to ``run.json`` before any cell is done.

    Attributes
    ----------
    input
        Where the tiles are.
    config
        The fields of the `CatalogConfig`.
    config_hash
        Its hash.
    weights
        Hash of the weights by deblender.
    versions
        Of the packages that can change a result.
    plan
        Names of the cells by tile.
    """

    input: str
    config: Mapping[str, Any]
    config_hash: str
    weights: Mapping[str, str]
    versions: Mapping[str, str]
    plan: Mapping[str, Sequence[str]]

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands of the catalog."""
        return tuple(self.config["bands"])

    @property
    def keys(self) -> set[tuple[str, str]]:
        """Tile and cell of every planned cell."""
        return {(tile, cell) for tile, cells in self.plan.items() for cell in cells}


def shard_path(out: str, tile: str, cell: str) -> str:
    """Return where a cell's rows lie; no tile name leads outside `out`."""
    return storage.join(out, "catalog", _folder(tile), f"cell={quote(cell, safe='')}.parquet")


def entry_path(out: str, tile: str, cell: str) -> str:
    """Return where a cell's ledger entry lies, or that of a tile without a plan."""
    name = f"cell={quote(cell, safe='')}.json" if cell else PLAN_FAILURE
    return storage.join(out, "ledger", _folder(tile), name)


def _folder(tile: str) -> str:
    # Percent-encoding is what readers of `key=value` paths decode.
    return f"tile={quote(tile, safe=' ,+')}"


def write_entry(out: str, entry: LedgerEntry) -> None:
    """Write one entry, replacing an earlier one of the same cell."""
    storage.write_bytes(entry_path(out, *entry.key), _to_json(asdict(entry)))


def read_entries(out: str) -> list[LedgerEntry]:
    """Read the whole ledger, in order of paths.

    Raises
    ------
    ValueError, TypeError
        If a file is not a ledger entry.
    """
    paths = sorted(storage.list_files(storage.join(out, "ledger"), ".json"))
    return [read_entry(path) for path in paths]


def read_entry(path: str) -> LedgerEntry:
    """Read one entry.

    Raises
    ------
    ValueError, TypeError
        If the file is not a ledger entry.
    """
    return LedgerEntry(**json.loads(storage.read_bytes(path)))


def write_run(out: str, run: Run) -> None:
    """Write ``run.json``."""
    storage.write_bytes(storage.join(out, RUN_FILE), _to_json(asdict(run)))


def read_run(out: str) -> Run:
    """Read ``run.json``.

    Raises
    ------
    ConfigError
        If there is none: `out` is no catalog.
    """
    path = storage.join(out, RUN_FILE)
    if not storage.exists(path):
        raise ConfigError(f"{out} holds no catalog: it has no {RUN_FILE}")
    return Run(**json.loads(storage.read_bytes(path)))


def _to_json(values: Mapping[str, object]) -> bytes:
    return json.dumps(values, indent=1, sort_keys=True).encode()


def open_output(out: str, run: Run, resume: bool, overwrite: bool) -> list[LedgerEntry]:
    """Make `out` ready for a run and return the entries of cells that are done already.

    Raises
    ------
    ConfigError
        If `out` is in use and neither `resume` nor `overwrite` says what to do, if both do, or
        if the run that began there is not the same as `run`.
    """
    if resume and overwrite:
        raise ConfigError("resume and overwrite exclude each other")
    if overwrite:
        _remove(out)
    elif resume and storage.exists(storage.join(out, RUN_FILE)):
        return _resume(out, run)
    elif storage.list_files(out, ""):
        raise ConfigError(
            f"{out} is not empty; give --resume to go on or --overwrite to replace it"
        )
    write_run(out, run)
    return []


def _remove(out: str) -> None:
    """Remove what a run writes, and nothing else that may lie there."""
    for folder in ("catalog", "ledger"):
        storage.remove_tree(storage.join(out, folder))


def _resume(out: str, run: Run) -> list[LedgerEntry]:
    earlier = read_run(out)
    changes = differences(earlier, run)
    if changes:
        raise ConfigError(f"cannot resume {out}, it was begun with another {'; '.join(changes)}")
    # Tiles that were unusable then may be planned now; their entry must not outlive that.
    entries = read_entries(out)
    for entry in entries:
        if not entry.cell:
            storage.remove_tree(entry_path(out, *entry.key))
    write_run(out, run)
    return [entry for entry in entries if entry.done]


def differences(earlier: Run, later: Run) -> list[str]:
    """Say in what a later run is not the same as an earlier one; empty if it is."""
    said = [
        _change(name, earlier.config.get(name), value)
        for name, value in _plain(later.config).items()
        if earlier.config.get(name) != value
    ]
    if earlier.input != later.input:
        said.append(_change("input", earlier.input, later.input))
    if dict(earlier.weights) != dict(later.weights):
        said.append(_change("weights", dict(earlier.weights), dict(later.weights)))
    gone = len(earlier.keys - later.keys)
    return [*said, f"plan ({gone} planned cells are gone from the input)"] if gone else said


def _change(name: str, earlier: object, later: object) -> str:
    return f"{name} ({earlier!r} then, {later!r} now)"


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    """Return values as they look after a round trip through JSON: tuples become lists."""
    plain: dict[str, object] = json.loads(_to_json(values))
    return plain
