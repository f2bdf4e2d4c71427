"""How fast a catalog becomes HATS, and with how much memory: rows copied over the sky.

The rows of simulated sources are put on cells side by side in a square on the sky, some thousand
each as a survey has them.  ``python -m benchmarks.hats --rows 5000000`` needs some 3 GB of disk.
"""

from __future__ import annotations

import argparse
import math
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from raydeblend import catalog, storage
from raydeblend.export.hats import HatsConfig, export_hats
from raydeblend.pipeline.compactor import LedgerCompactor
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.ledger import Run, write_run
from raydeblend.pipeline.shards import shard_path

BANDS = ("g", "r", "i")
PER_CELL = 1000
CELL_DEG = 0.048
"""Side of a cell of 1024 pixels of HSC."""
CORNER = (150.0, -5.0)


def main() -> None:
    """Make the catalog, export it, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--scratch", help="directory for the catalog and its export")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        write_copies(f"{folder}/out", options.rows, options.seed)
        start, before = time.monotonic(), sum(_cpu_seconds())
        done = export_hats(
            f"{folder}/out", f"{folder}/hats/survey", HatsConfig(), workers=options.workers
        )
        seconds = time.monotonic() - start
        size = sum(path.stat().st_size for path in Path(folder, "hats").rglob("*.parquet"))
    here, workers = (
        resource.getrusage(of).ru_maxrss / 1024
        for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    cpu = sum(_cpu_seconds()) - before
    print("| rows | partitions | margin | s | 10⁶ rows/min | MiB driver, worker | GB | CPU s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print(
        f"| {done.n_rows} | {done.n_partitions} | {done.n_margin_rows} | {seconds:.1f} | "
        f"{done.n_rows / seconds * 60 / 1e6:.2f} | {here:.0f}, {workers:.0f} | {size / 1e9:.2f} | "
        f"{cpu:.0f} |"
    )


def _cpu_seconds() -> tuple[float, ...]:
    """Return the time of the CPU in this process and in those of it that ended."""
    uses = [resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return tuple(use.ru_utime + use.ru_stime for use in uses)


def write_copies(out: str, n_rows: int, seed: int) -> None:
    """Write a catalog as a run leaves it: the rows of one cell, elsewhere in each."""
    n_cells = -(-n_rows // PER_CELL)
    side = math.ceil(math.sqrt(n_cells))
    rng = np.random.default_rng(seed)
    write_run(out, Run("tiles", {"bands": list(BANDS)}, "abc", {"joint": ""}, {}, {"hash": ""}))
    columns = {field.name: rng.lognormal(3, 1, PER_CELL) for field in catalog.schema(BANDS)}
    compactor = LedgerCompactor(out)
    for number in range(n_cells):
        row, column = divmod(number, side)
        tile, cell = f"t{row:04d}", f"c{column:04d}"
        storage.write_bytes(
            shard_path(out, tile, cell), catalog.to_bytes(_cell(columns, tile, cell, number, rng))
        )
        compactor.add(LedgerEntry(tile, cell, "done", sources=PER_CELL, config_hash="abc"))
    compactor.write_table()


def _cell(
    columns: dict[str, np.ndarray], tile: str, cell: str, number: int, rng: np.random.Generator
) -> pa.Table:
    fields = catalog.schema(BANDS)
    words = {f.name: np.full(PER_CELL, "joint") for f in fields if pa.types.is_string(f.type)}
    whole = {f.name: np.arange(PER_CELL) % 9 for f in fields if pa.types.is_integer(f.type)}
    ids = (1 << 60) + number * PER_CELL + np.arange(PER_CELL)
    row, column = int(tile[1:]), int(cell[1:])
    places = rng.uniform(size=(2, PER_CELL))
    rows = {**columns, **words, **whole, "source_id": ids, "parent_id": ids}
    rows |= {"tile": np.full(PER_CELL, tile), "cell": np.full(PER_CELL, cell)}
    rows |= {"is_primary": np.arange(PER_CELL) % 20 > 0}
    rows |= {"ra": CORNER[0] + CELL_DEG * (column + places[0])}
    rows |= {"dec": CORNER[1] + CELL_DEG * (row + places[1])}
    return catalog.to_table(rows, BANDS)


if __name__ == "__main__":
    main()
