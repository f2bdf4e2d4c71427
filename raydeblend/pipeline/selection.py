"""Which of a survey's cells one run does: some tiles or cells, a region of the sky, what failed.

The plan is always that of the whole survey, so that what is primary is decided as if all of it were
done, and a later ``--resume`` without a selection does the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend.errors import ConfigError
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.plan import Plan
from raydeblend.pipeline.region import Region, cells_within

NAMED = 3
"""How many names a message lists."""

Cell = tuple[str, str]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Selection:
    """Which of the unfinished cells of a survey a run processes; by default all.

    Attributes
    ----------
    only
        Tiles and cells ``TILE`` or ``TILE/CELL``, between commas.
    region
        Only cells with a pixel within it.
    retry_failed
        Only cells that the ledger has as failed, and those of tiles that could not be planned.
    """

    only: str | None = None
    region: Region | None = None
    retry_failed: bool = False

    def check(self, resume: bool) -> None:
        """Check that it goes with a run; a ConfigError if not."""
        if self.retry_failed and not resume:
            raise ConfigError("--retry-failed requires --resume")

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self == Selection()

    def of(self, plan: Plan, failed: Collection[Cell]) -> Mask:
        """Tell which cells of a plan are chosen, ``(cells,)``.

        Parameters
        ----------
        failed
            Tile and cell of what the ledger has as failed; without a cell for a whole tile.

        Raises
        ------
        ConfigError
            If `only` names what the plan lacks, or no tile of the survey is in the region.
        """
        chosen = np.ones(len(plan), dtype=bool)
        if self.only is not None:
            chosen &= _named(plan, self.only)
        if self.region is not None:
            chosen &= cells_within(plan, self.region)
        if self.retry_failed:
            again = set(failed)
            chosen &= _mask(plan, [k for k in plan.keys() if {k, (k[0], "")} & again])  # noqa: SIM118
        return chosen


def _mask(plan: Plan, cells: Collection[Cell]) -> Mask:
    wanted = set(cells)
    return np.array([key in wanted for key in plan.keys()], dtype=bool)  # noqa: SIM118


def _named(plan: Plan, text: str) -> Mask:
    cells: dict[str, list[str]] = {}
    for tile, cell in plan.keys():  # noqa: SIM118  a plan is no mapping
        cells.setdefault(tile, []).append(cell)
    return _mask(plan, [key for name in _names(text, cells) for key in _cells(name, cells)])


def _names(text: str, cells: dict[str, list[str]]) -> Iterator[str]:
    """Yield the names between commas; a tile's own name may hold some too."""
    parts = [part.strip() for part in text.split(",")]
    widest = 1 + max((tile.count(",") for tile in cells), default=0)
    while parts:
        sizes = range(min(widest, len(parts)), 0, -1)
        found = (n for n in sizes if _tile_of(",".join(parts[:n]), cells) is not None)
        n = next(found, 1)
        yield ",".join(parts[:n])
        del parts[:n]


def _tile_of(name: str, cells: dict[str, list[str]]) -> str | None:
    """Return the tile of a name, of itself or of a cell, whose own name holds no comma."""
    if name in cells:
        return name
    tile, _, cell = name.rpartition("/")
    return tile if tile in cells and "," not in cell else None


def _cells(name: str, cells: dict[str, list[str]]) -> Iterator[Cell]:
    """Yield the cells that one name stands for."""
    tile = _tile_of(name, cells)
    if tile is None:
        raise ConfigError(f"no tile of this run is called {name!r}; there are {_some([*cells])}")
    cell = name.removeprefix(tile).removeprefix("/")
    if cell and cell not in cells[tile]:
        raise ConfigError(f"tile {tile} has no cell {cell!r}; it has {_some(cells[tile])}")
    yield from ((tile, own) for own in ([cell] if cell else cells[tile]))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


EVERYTHING = Selection()


@dataclass(frozen=True)
class Choice:
    """What a run does of the cells that are not done.

    Attributes
    ----------
    now
        Numbers of the cells to do.
    later
        Tile and cell of the others.
    failed_before
        The ledger's entries of those among the others that have failed.
    """

    now: NDArray[np.int64]
    later: frozenset[Cell] = frozenset()
    failed_before: tuple[LedgerEntry, ...] = ()

    def __str__(self) -> str:
        left = f", {len(self.later)} left for another run" if self.later else ""
        if len(self.now):
            return f"{len(self.now)} to do{left}"
        return f"none to do{left}" if left else "all done, nothing to do"


def choose(
    out: str, plan: Plan, left: NDArray[np.int64], selection: Selection, resume: bool
) -> Choice:
    """Choose among the cells that are `left` to do in the run of `out`.

    Raises
    ------
    ConfigError
        See `Selection.of`.
    """
    if selection.is_all:
        return Choice(left)
    entries = [entry for entry in read_entries(out) if not entry.done] if resume else []
    chosen = selection.of(plan, [entry.key for entry in entries])[left]
    keys = plan.keys()
    later = frozenset(keys[i] for i in left[~chosen].tolist())
    return Choice(left[chosen], later, tuple(entry for entry in entries if entry.key in later))
