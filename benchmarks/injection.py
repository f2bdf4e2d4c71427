"""Whether injected sources tell the truth: ``python -m benchmarks.injection [--tiles 4]``.

Simulated tiles, of which everything is known, are cataloged with injected sources.  Completeness,
bias and width of pulls by magnitude, from the injected galaxies and from those of the sky.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from benchmarks.circumstances import circumstances
from raydeblend import catalog
from raydeblend.config import CatalogConfig
from raydeblend.evaluate.common.catalogs import read_truth
from raydeblend.evaluate.common.sky import between
from raydeblend.evaluate.common.tables import markdown, number
from raydeblend.evaluate.survey.scores import GalaxyTable, compare
from raydeblend.inject.read import read_injected
from raydeblend.inject.sources import GALAXY
from raydeblend.inject.statistics import InjectedBin, middle, score_bin, spread
from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.survey import run_catalog
from raydeblend.simulate.tiles import simulate_tiles

BANDS = ("g", "r", "i")
EDGES = (20.0, 21.0, 22.0, 23.0, 23.5, 24.0, 24.5, 25.0, 25.5, 26.0, 26.5)


def main() -> None:
    """Measure and print the table."""
    options = _options()
    print(circumstances(), flush=True)
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        tiles, out = f"{folder}/tiles", f"{folder}/out"
        simulate_tiles(tiles, "HSC", BANDS, options.tiles, options.size, seed=options.seed,
                       population="cosmos", split="test")  # fmt: skip
        config = CatalogConfig(BANDS, survey="HSC", inject=options.density, cell_size=512)
        run_catalog(tiles, out, config, progress=False)
        true, _ = compare(catalog.read_catalog(out), read_truth(tiles), BANDS)
        injected = read_injected(out)
        cost = [(e.injection_seconds, sum(e.seconds.values())) for e in read_entries(out)]
    galaxies = injected.filter(np.array(injected["kind"].to_pylist()) == GALAXY)
    bins = [score_bin(galaxies, low, high, BANDS) for low, high in pairwise(EDGES)]
    print(markdown(_header(), [list(_row(each, true)) for each in bins]))
    spent, whole = np.sum(cost, axis=0)
    print(f"{len(injected)} injected sources took {spent / (whole - spent):.1%} more time")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=int, default=4)
    parser.add_argument("--size", type=int, default=1024, help="side of a tile in pixels")
    parser.add_argument("--density", type=float, default=10, help="injected, per arcmin²")
    parser.add_argument("--seed", type=int, default=31)
    parser.add_argument("--scratch", help="directory for tiles and catalogs")
    return parser.parse_args()


def _header() -> list[str]:
    names = ("complete", "± of both", "bias i", "pull i")
    both = [f"{name}, {of}" for name in names[:1] + names[2:] for of in ("injected", "true")]
    return ["i", "injected", "true", *both[:2], names[1], *both[2:]]


def _row(each: InjectedBin, true: GalaxyTable) -> Iterator[str]:
    part = true.take(between(true.magnitude, each.low, each.high))
    n, found = len(part.found), part.found
    rate = float(found.mean()) if n else float("nan")
    error = np.sqrt(max(rate * (1 - rate), 1 / max(n, 1)) / max(n, 1))
    yield from (f"{each.low:g}–{each.high:g}", str(each.n), str(n))
    yield from (number(each.completeness, ".3f"), number(rate, ".3f"))
    yield number(float(np.hypot(error, each.completeness_err)), ".3f")
    own = each.bands[BANDS[-1]]
    yield from (number(own.bias, "+.3f"), number(middle(_last(part.error)), "+.3f"))
    yield f"{number(own.pull_width, '.2f')} ± {number(own.pull_width_err, '.2f')}"
    yield number(spread(_last(part.pull)), ".2f")


def _last(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[:, -1]


if __name__ == "__main__":
    main()
