"""Reading and detection of a patch of LSST's DP2 beside the same pixels in the native layout.

CPU time of planning, of reading, and of the survey's first stage, which reads and detects, with one
configuration for both.  The native files have one PSF, uncompressed planes and MP_ cards.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits as astrofits

from benchmarks.circumstances import circumstances
from raydeblend.config import CatalogConfig
from raydeblend.evaluate.common.tables import markdown
from raydeblend.fits import find_tiles, read_tile, write_band
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.stages import detect_cell
from raydeblend.survey import NJY_ZERO_POINT, get_survey
from raydeblend.tile import Tile, TileHeader

PATCH = "../shared/data/lsst/dp2_deep_coadd"
BANDS = ("g", "r", "i")
STEPS = ("plan", "read", "read and detect")
STAGE = STEPS[-1]
BAR = 1.3
CONFIG = CatalogConfig(BANDS, survey="LSST", deblender="sep", photometry="mixture")


def main() -> None:
    """Time both in turn and print the table."""
    options = _options()
    print(circumstances(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        write_native(read(plan(options.patch)), Path(folder))
        inputs = {"lsst-dp2": options.patch, "native": folder}
        seconds = {(step, name): np.inf for step in STEPS for name in inputs}
        for _ in range(options.n):
            for name, path in inputs.items():
                for step, spent in zip(STEPS, _time(path), strict=True):
                    seconds[step, name] = min(seconds[step, name], spent)
    lines = [
        [f"{step}, {name}", f"{1e3 * s:.0f}", f"{s / seconds[step, 'native']:.2f}"]
        for (step, name), s in seconds.items()
    ]
    print(markdown(["step", "CPU ms", "over native"], lines))
    ratio = seconds[STAGE, "lsst-dp2"] / seconds[STAGE, "native"]
    print(f"ratio {ratio:.2f}, bar {BAR:g}: {'met' if ratio <= BAR else 'MISSED'}")


def _time(folder: str) -> list[float]:
    """Return the CPU seconds of each step."""
    header = plan(folder)
    task = plan_survey([header], max(header.shape), 0).task(0)
    steps = (partial(plan, folder), partial(read, header), partial(detect_cell, task, CONFIG))
    return [_cpu_seconds(step) for step in steps]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patch", default=PATCH, help="folder of one patch in g, r and i")
    parser.add_argument("--n", type=int, default=5, help="runs of each, in turn")
    return parser.parse_args()


def plan(folder: str) -> TileHeader:
    """Plan the tile in a folder, whatever its layout."""
    (header,), _ = find_tiles(folder, BANDS)
    return header


def read(header: TileHeader) -> Tile:
    """Read a tile as a whole."""
    return read_tile(header, header.box, get_survey(CONFIG.survey))


def write_native(tile: Tile, folder: Path) -> None:
    """Write the pixels of a tile in the native layout."""
    cards = astrofits.Header.fromstring(tile.header.wcs)
    for i, band in enumerate(BANDS):
        write_band(
            str(folder / f"patch_{band}.fits"),
            tile.image[i],
            tile.unusable[i].astype(np.int32),
            tile.variance[i],
            cards,
            tile.psf.at(0, 0)[i],
            10 ** (0.4 * NJY_ZERO_POINT),
            {"BAD": 0},
        )


def _cpu_seconds(work: partial[object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
