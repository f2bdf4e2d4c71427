"""One cell with thousands of sources: ``python -m benchmarks.crowded_cell [--deblender sep]``.

Gaussian galaxies at random places, so dense that footprints grow together, as one cell through
`run_catalog`: what became of them, seconds of each stage, peak memory, and how many sources carry
each flag.  12,000 of them on 1024 x 1024 pixels are 5,000 detected peaks, of which 3,400 are in
one footprint.
"""

from __future__ import annotations

import argparse
import tempfile

import numpy as np
from numpy.typing import NDArray

from benchmarks.circumstances import circumstances
from benchmarks.gaussian_sky import BANDS, draw_galaxies, write_tile
from raydeblend.config import CatalogConfig
from raydeblend.evaluate.common.tables import markdown
from raydeblend.pipeline.entries import read_entries
from raydeblend.pipeline.survey import run_catalog


def main() -> None:
    """Make the tile, its catalog, and print the ledger's entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=12_000, help="galaxies drawn")
    parser.add_argument("--size", type=int, default=1024, help="side of the cell in pixels")
    parser.add_argument("--deblender", default="sep")
    options = parser.parse_args()
    print(circumstances(), flush=True)
    config = CatalogConfig(BANDS, deblender=options.deblender, cell_size=options.size)
    with tempfile.TemporaryDirectory() as folder:
        write_tile(f"{folder}/tiles", "crowd", crowd(options.sources, options.size))
        run_catalog(f"{folder}/tiles", f"{folder}/out", config, progress=False)
        (entry,) = read_entries(f"{folder}/out")
    rows = [
        ["ended", f"{entry.status} {entry.reason}".strip()],
        [
            "sources",
            f"{entry.sources} in {entry.parents} footprints, {entry.blends} of them blends",
        ],
        ["seconds", ", ".join(f"{name} {s:.1f}" for name, s in entry.seconds.items())],
        ["peak memory", f"{entry.peak_memory_mb:.0f} MiB"],
        ["flags", ", ".join(f"{name} {n}" for name, n in sorted(entry.flags.items()))],
    ]
    print(markdown([f"{options.deblender}, {options.sources} drawn", ""], rows))


def crowd(n: int, size: int, seed: int = 4) -> NDArray[np.float64]:
    """Return ``(size, size)`` light of `n` galaxies of 200 to 3,000 counts, noise being 1."""
    rng = np.random.default_rng(seed)
    xy, flux = rng.uniform(8, size - 8, (n, 2)), 10 ** rng.uniform(2.3, 3.5, n)
    return draw_galaxies(xy, flux, rng.uniform(1.9, 2.6, n), size)


if __name__ == "__main__":
    main()
