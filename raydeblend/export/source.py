"""What is exported: the shards of finished cells, of one run or of several parts of a survey."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.ledger import Run, read_run
from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.runs import find_runs
from raydeblend.pipeline.shards import shard_path


@dataclass(frozen=True)
class Source:
    """The catalogs to export.

    Attributes
    ----------
    outs
        Their places.
    run
        What the first is; the others are of the same configuration.
    shards
        Paths of the shards, in order.
    n_failed
        Cells that had failed.
    digest
        Of the cells and how many sources each has.
    """

    outs: tuple[str, ...]
    run: Run
    shards: tuple[str, ...]
    n_failed: int
    digest: str

    def __str__(self) -> str:
        return " and ".join(self.outs)


def read_source(outs: str | Sequence[str], even_empty: bool = False) -> Source:
    """Read the ledgers of the catalogs to export, one or several, `even_empty` ones.

    Raises
    ------
    ConfigError
        If one of them is no catalog, two are of different configurations or have a cell in common,
        or none has a source.
    """
    named = [outs] if isinstance(outs, str) else outs
    outs = tuple(storage.absolute(out) for out in find_runs(named))
    runs = [read_run(out) for out in outs]
    cells: dict[tuple[str, str], tuple[str, LedgerEntry]] = {}
    n_failed = 0
    for out, run in zip(outs, runs, strict=True):
        if (run.bands, run.config_hash) != (runs[0].bands, runs[0].config_hash):
            raise ConfigError(f"{outs[0]} and {out} are not of one configuration")
        for entry in read_entries(out):
            n_failed += not entry.done
            if entry.done and entry.key in cells:
                other, _ = cells[entry.key]
                raise ConfigError(f"{other} and {out} both have cell {entry.cell} of {entry.tile}")
            if entry.done:
                cells[entry.key] = out, entry
    done = [(shard_path(out, *key), entry) for key, (out, entry) in sorted(cells.items())]
    if not even_empty and not sum(entry.sources for _, entry in done):
        raise ConfigError(
            f"{' and '.join(outs)} has no source to export; its ledger has {len(done)} cells done"
        )
    said = json.dumps([[*entry.key, entry.sources] for _, entry in done])
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    return Source(outs, runs[0], tuple(path for path, _ in done), n_failed, digest)
