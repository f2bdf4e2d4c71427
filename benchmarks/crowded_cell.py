"""One cell with thousands of sources: ``python -m benchmarks.crowded_cell [--deblender sep]``.

Gaussian galaxies at random places, so dense that footprints grow together, as one cell through the
stages of `run_catalog` in this process: what became of every detected peak, CPU seconds of each
stage, peak memory, and how many sources carry each flag.  12,000 of them on 1024 x 1024 pixels are
5,000 detected peaks, of which 3,400 are in one footprint.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.circumstances import circumstances
from benchmarks.gaussian_sky import BANDS, draw_galaxies, write_tile
from raydeblend.config import CatalogConfig
from raydeblend.evaluate.common.tables import markdown
from raydeblend.fits import find_tiles
from raydeblend.parents import read_parents, unaccounted
from raydeblend.pipeline.cell_state import CellState, run_stage
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.outcome import write_cell
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.preparation import resolve
from raydeblend.pipeline.stages import compile_ahead, stages_of


def main() -> None:
    """Make the tile, its catalog, and print the ledger's entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=12_000, help="galaxies drawn")
    parser.add_argument("--size", type=int, default=1024, help="side of the cell in pixels")
    parser.add_argument("--deblender", default="sep")
    options = parser.parse_args()
    print(circumstances(), flush=True)
    config = CatalogConfig(BANDS, survey="HSC", deblender=options.deblender, cell_size=options.size)
    with tempfile.TemporaryDirectory() as folder:
        write_tile(f"{folder}/tiles", "crowd", crowd(options.sources, options.size))
        entry, spent = make_cell(f"{folder}/tiles", f"{folder}/out", config)
        rows = list(_lines(entry, spent, f"{folder}/out"))
    print(markdown([f"{options.deblender}, {options.sources} drawn", ""], rows))


@dataclass(frozen=True)
class Spent:
    """CPU seconds of a stage, and the largest resident memory of the process by its end, in MiB."""

    seconds: float
    peak: float


def make_cell(tiles: str, out: str, config: CatalogConfig) -> tuple[LedgerEntry, dict[str, Spent]]:
    """Do the one cell of a tile in this process; return its entry and what each stage took."""
    config = resolve(config, tiles, out)
    compile_ahead(config, 0)
    (header,), _ = find_tiles(tiles, config.bands)
    made, work = stages_of(config), CellState(plan_survey([header], config.cell_size, 0).task(0))
    stages: dict[str, Callable[[Any], object]] = {
        "detect": made.detect,
        "deblend": made.deblend(),
        "measure": made.measure,
    }
    spent = {"start": Spent(0.0, _peak())}
    for name, stage in stages.items():
        start = time.process_time()
        work = run_stage(work, name, stage)
        spent[name] = Spent(time.process_time() - start, _peak())
    return write_cell(work, out, "", ""), spent


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _lines(entry: LedgerEntry, spent: dict[str, Spent], out: str) -> Iterator[list[str]]:
    yield ["ended", f"{entry.status} {entry.reason}".strip()]
    yield [
        "sources",
        f"{entry.sources} in {entry.parents} footprints, {entry.blends} of them blends",
    ]
    table = read_parents(out)
    added = int(np.sum(table["n_added"].to_numpy()))
    reasons = "".join(f", {n} {reason}" for reason, n in entry.unpublished.items())
    left = int(np.abs(unaccounted(table)).sum())
    yield ["peaks", f"{entry.peaks}: {entry.sources - added} rows{reasons}; {left} unaccounted for"]
    yield ["rows beside the peaks", str(added)]
    yield ["footprints not in full", ", ".join(f"{n} {r}" for r, n in entry.shortfalls.items())]
    stages = ", ".join(f"{name} {each.seconds:.1f}" for name, each in spent.items())
    yield ["core-seconds", f"{sum(each.seconds for each in spent.values()):.1f} ({stages})"]
    peaks = ", ".join(f"{name} {each.peak:.0f}" for name, each in spent.items())
    yield ["peak memory", f"{_peak():.0f} MiB (by the end of {peaks})"]
    yield ["flags", ", ".join(f"{name} {n}" for name, n in sorted(entry.flags.items()))]


def crowd(n: int, size: int, seed: int = 4) -> NDArray[np.float64]:
    """Return ``(size, size)`` light of `n` galaxies of 200 to 3,000 counts, noise being 1."""
    rng = np.random.default_rng(seed)
    xy, flux = rng.uniform(8, size - 8, (n, 2)), 10 ** rng.uniform(2.3, 3.5, n)
    return draw_galaxies(xy, flux, rng.uniform(1.9, 2.6, n), size)


if __name__ == "__main__":
    main()
