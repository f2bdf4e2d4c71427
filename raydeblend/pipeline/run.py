"""What a catalog run is before it begins and what it came to; the run itself is `survey`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata

from raydeblend import storage
from raydeblend.config import CatalogConfig
from raydeblend.fits import TileFailure
from raydeblend.pipeline.ledger import LedgerEntry, Run, write_entry
from raydeblend.pipeline.plan import CellTask
from raydeblend.pipeline.separate import DeblendCell

VERSIONED = ("raydeblend", "numpy", "scipy", "astropy", "sep", "torch", "ngmix", "ray", "pyarrow")


@dataclass(frozen=True)
class RunSummary:
    """What a run came to; counts are of the whole catalog, also of what was done before."""

    n_cells: int
    n_failed: int
    failures: tuple[LedgerEntry, ...]
    n_sources: int
    n_blends: int
    seconds: float
    catalog: str
    ledger: str


def describe(input: str, config: CatalogConfig, tasks: Sequence[CellTask]) -> Run:
    """Return the description of a run, with everything that can change its catalog."""
    plan: dict[str, list[str]] = {}
    for task in tasks:
        plan.setdefault(task.cell.tile.name, []).append(task.cell.name)
    return Run(
        input=input,
        config=asdict(config),
        config_hash=config.hash,
        weights={config.deblender: DeblendCell(config).weights_hash},
        versions=_versions(),
        plan=plan,
    )


def _versions() -> dict[str, str]:
    installed = {name for found in metadata.packages_distributions().values() for name in found}
    return {name: metadata.version(name) for name in VERSIONED if name in installed}


def fail_tile(out: str, tile: TileFailure) -> LedgerEntry:
    """Write the ledger entry of a tile that could not be planned."""
    entry = LedgerEntry(tile=tile.name, cell="", status="failed", reason=tile.reason)
    write_entry(out, entry)
    return entry


def summarise(entries: Iterable[LedgerEntry], out: str, seconds: float) -> RunSummary:
    """Add up the ledger."""
    entries = list(entries)
    failures = tuple(entry for entry in entries if not entry.done)
    return RunSummary(
        n_cells=len(entries),
        n_failed=len(failures),
        failures=failures,
        n_sources=sum(entry.sources for entry in entries),
        n_blends=sum(entry.blends for entry in entries),
        seconds=seconds,
        catalog=storage.join(out, "catalog"),
        ledger=storage.join(out, "ledger"),
    )
