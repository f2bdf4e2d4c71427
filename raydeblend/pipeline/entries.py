"""The ledger's entries: what became of each cell, one small file per cell.

A cell's entry is written by the worker that did it, whole or not at all, under a name that the
cell alone decides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any
from urllib.parse import quote

from raydeblend import storage
from raydeblend.pipeline.shards import quote_name

PLAN_FAILURE = "plan.json"
STATUSES = ("done", "failed")
_PYTHON: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}
"""What the types of an entry's fields are in JSON."""


class DamagedEntryError(ValueError):
    """A file of the ledger that tells nothing: empty, cut off, or something else.

    Attributes
    ----------
    path
        The file.
    """

    def __init__(self, path: str, why: object) -> None:
        super().__init__(f"{path} {why}")
        self.path = path


@dataclass(frozen=True)
class LedgerEntry:
    """The outcome of one cell, or of a whole tile that could not be planned (`cell` is empty).

    Attributes
    ----------
    status
        ``done`` or ``failed``.
    reason
        Why it failed; if done empty, or why a second pass over its limited footprints failed.
    sources, blends, parents
        Rows of the shard, and the footprints, blended ones and all, whose brightest peak lies in
        the cell's inner region: each footprint counts in one cell.
    seconds
        Wall time per stage.
    peak_memory_mb
        Largest resident memory, in MiB, of the processes that worked on the cell.
    noise_correlation
        Of each band, the noise on the scale of the PSF over what independent pixels of the variance
        plane would have; errors and thresholds are larger by as much.  Without bands for which it
        is not known.
    unusable
        Part of the pixels of the cell's inner region that are usable in no band.
    bytes_read, bytes_written
        Of pixels, as they are once unpacked, and of the shard and the table of footprints.
    flags
        How many sources carry each of `raydeblend.flags.Flag`, by name.
    injected
        Sources that were injected into the copy of the cell.
    completeness_50
        Of each band the AB magnitude at which half of them are found, where they tell.
    injection_seconds
        Wall time, of `seconds`, that went to them.
    injection_failure
        Why the copy told nothing, if something went wrong with it.
    suspect
        What the checks of the cell found (`raydeblend.checks`), in words; empty for nothing.
    check_failure
        Why the checks told nothing, if something went wrong with them.
    peaks
        Detected peaks in the cell's inner region, and ``unpublished`` how many of these are no row,
        by `raydeblend.parents.Unpublished`.
    shortfalls
        Footprints of the cell that were not deblended in full, by `raydeblend.parents.Shortfall`.
    retried
        Footprints that were deblended in a second pass, with more work.
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
    flags: Mapping[str, int] = field(default_factory=dict)
    noise_correlation: Mapping[str, float] = field(default_factory=dict)
    injected: int = 0
    completeness_50: Mapping[str, float] = field(default_factory=dict)
    injection_seconds: float = 0.0
    injection_failure: str = ""
    suspect: str = ""
    check_failure: str = ""
    peaks: int = 0
    unpublished: Mapping[str, int] = field(default_factory=dict)
    shortfalls: Mapping[str, int] = field(default_factory=dict)
    retried: int = 0
    unusable: float = 0.0
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def done(self) -> bool:
        """Whether the cell's shard is complete."""
        return self.status == "done"

    @property
    def key(self) -> tuple[str, str]:
        """Tile and cell."""
        return self.tile, self.cell


def entry_path(out: str, tile: str, cell: str) -> str:
    """Return where a cell's ledger entry lies, or that of a tile without a plan."""
    name = f"cell={quote(cell, safe='')}.json" if cell else PLAN_FAILURE
    return storage.join(out, "ledger", f"tile={quote_name(tile)}", name)


def write_entry(out: str, entry: LedgerEntry) -> None:
    """Write one entry, replacing an earlier one of the same cell."""
    storage.write_bytes(entry_path(out, *entry.key), to_json(asdict(entry)))


def read_entry(path: str) -> LedgerEntry:
    """Read one entry; what a later version adds to one is left out.

    Raises
    ------
    DamagedEntryError
        If the file is not a ledger entry.
    """
    data = storage.read_bytes(path)
    try:
        return _to_entry(json.loads(data))
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedEntryError(path, f"is not a ledger entry: {error}") from error


def _to_entry(values: object) -> LedgerEntry:
    if not isinstance(values, dict):
        raise TypeError("it is no JSON object")
    known = {f.name: values[f.name] for f in fields(LedgerEntry) if f.name in values}
    for f in fields(LedgerEntry):
        if f.name in known and not _fits(known[f.name], str(f.type)):
            raise TypeError(f"{f.name} cannot be {known[f.name]!r}")
    entry = LedgerEntry(**known)
    if not entry.tile or entry.status not in STATUSES:
        raise ValueError(f"it has tile {entry.tile!r} and status {entry.status!r}")
    return entry


def _fits(value: object, kind: str) -> bool:
    """Tell whether a value read from JSON is of a field's type."""
    if kind.startswith("Mapping"):
        number = kind.removesuffix("]").split()[-1]
        return isinstance(value, dict) and all(_fits(v, number) for v in value.values())
    return not isinstance(value, bool) and isinstance(value, _PYTHON[kind])


def to_json(values: Mapping[str, object]) -> bytes:
    """Return JSON that is the same for equal values."""
    return json.dumps(values, indent=1, sort_keys=True).encode()


def plain(values: Mapping[str, object]) -> dict[str, Any]:
    """Return values as they look after a round trip through JSON: tuples become lists."""
    result: dict[str, Any] = json.loads(to_json(values))
    return result
