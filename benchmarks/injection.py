"""Whether injected sources tell the truth: ``python -m benchmarks.injection OUT [--tiles 12]``.

Simulated tiles, of which everything is known, are cataloged with injected sources, several times
over.  Completeness, bias and width of pulls by magnitude, from the injected galaxies and from those
of the sky, and the 95 % interval of what they differ by.  A tile that is in OUT is not done again.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.cells import CellCataloger
from benchmarks.circumstances import circumstances
from raydeblend import storage, tables
from raydeblend.config import CatalogConfig
from raydeblend.evaluate.common.sky import pair_catalog, primary
from raydeblend.evaluate.common.tables import Table, number, to_file, to_markdown
from raydeblend.fits import find_tiles, read_tile
from raydeblend.inject.config import INJECTION
from raydeblend.inject.places import NEAR, usable_pixels
from raydeblend.inject.sources import GALAXY, point_depth, reference_band
from raydeblend.inject.statistics import column, middle, spread
from raydeblend.pipeline.plan import plan_survey
from raydeblend.simulate.population.field import realistic_scene
from raydeblend.simulate.population.stamps import find_stamps
from raydeblend.simulate.scene import Grid, truth_table
from raydeblend.simulate.tiles import REALISTIC_DENSITY, write_tile
from raydeblend.survey import get_survey
from raydeblend.tile import TileHeader

BANDS = ("g", "r", "i")
BAND = BANDS[reference_band(BANDS)]
EDGES = (20.0, 21.0, 22.0, 23.0, 23.5, 24.0, 24.5, 25.0, 25.5, 26.0, 26.5)
DRAWS = 400
"""Of the bootstrap."""
INTERVAL = (2.5, 97.5)

Floats = NDArray[np.float64]
Statistic = Callable[["Galaxies"], float]


@dataclass(frozen=True)
class Galaxies:
    """The n galaxies of one kind.

    Attributes
    ----------
    magnitude, weight
        ``(n,)`` true, in the last band; in the numbers of the sky.
    found, error, pull
        ``(n,)`` whether they are in the catalog; F / F_true - 1 and (F - F_true) over the stated
        error in the last band, NaN without.
    """

    magnitude: Floats
    weight: Floats
    found: Floats
    error: Floats
    pull: Floats

    def take(self, rows: NDArray[np.generic]) -> Galaxies:
        """Return the chosen ones."""
        return Galaxies(**{name: values[rows] for name, values in vars(self).items()})


def main() -> None:
    """Measure and print the table."""
    options = _options()
    print(circumstances(), flush=True)
    config = CatalogConfig(BANDS, survey="HSC", inject=options.density, cell_size=options.size)
    cataloger = CellCataloger(config)
    for tile in range(options.tiles):
        _do_tile(options, options.seed + tile, cataloger)
    paths = [_path(options.out, options.seed + tile) for tile in range(options.tiles)]
    rows = [tables.from_parquet(storage.read_bytes(path)) for path in paths]
    table = Table(_header(), list(_rows(pa.concat_tables(rows))))
    print(to_markdown([table]))
    if options.json:
        options.json.write_bytes(to_file([table]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", help="folder of what each tile came to")
    parser.add_argument("--tiles", type=int, default=12)
    parser.add_argument("--size", type=int, default=512, help="side of a tile, one cell, in pixels")
    parser.add_argument("--density", type=float, default=30, help="injected at once, per arcmin²")
    parser.add_argument("--times", type=int, default=2, help="injections into each tile")
    parser.add_argument("--seed", type=int, default=31, help="of the first tile")
    parser.add_argument("--json", type=Path, help="file that gets the table too")
    return parser.parse_args()


def _path(out: str, seed: int) -> str:
    return storage.join(out, f"tile_{seed}.parquet")


def _do_tile(options: argparse.Namespace, seed: int, cataloger: CellCataloger) -> None:
    """Write the galaxies of a tile, those of the sky and the injected ones."""
    path = _path(options.out, seed)
    if storage.exists(path):
        return
    survey = get_survey("HSC")
    grid = Grid(1, options.size, 0, survey.pixel_scale)
    stamps = find_stamps(None, "test")
    scene = realistic_scene(survey, BANDS, grid, REALISTIC_DENSITY, seed, stamps)
    with tempfile.TemporaryDirectory() as folder:
        write_tile(scene, 0, seed, folder)
        ((header,), _) = find_tiles(folder, BANDS)
        plan = plan_survey([header], options.size, cataloger.config.border)
        (task,) = [plan.task(i) for i in range(len(plan))]
        cell = cataloger.detect(task)
        clean, pixels = cataloger.catalog(cell), cataloger.read(task)
        # Tiles of a survey differ by name, on which the draw depends; all of these have one name.
        seeds = [options.times * seed + time for time in range(options.times)]
        copies = [cataloger.copy(pixels, cell, each) for each in seeds]
        injected = [cataloger.recover(copy, clean) for copy in copies]
        true = _of_sky(header, clean, truth_table(scene))
    both = pa.concat_tables([true, _of_injected(pa.concat_tables(injected))])
    storage.write_bytes(path, tables.to_parquet(both))
    print(f"tile {seed}: {len(both)} galaxies", flush=True)


def _of_sky(header: TileHeader, rows: pa.Table, truth: pa.Table) -> pa.Table:
    """Return the true galaxies where, and as faint as, sources are injected."""
    pairing = pair_catalog(primary(rows), truth, BANDS)
    tile = read_tile(header, header.box, get_survey("HSC"), CatalogConfig(BANDS).bad_planes)
    column_, row = (np.floor(column(truth, name) + 0.5).astype(int) for name in ("x", "y"))
    low, high = (np.clip(v, 0, header.shape[0] - 1) for v in (row, column_))
    magnitude = column(truth, "magnitude")
    depth = point_depth(tile, reference_band(BANDS))
    alike = (magnitude - depth >= INJECTION.brightest) & (magnitude - depth < INJECTION.faintest)
    usable = ndimage.minimum_filter(usable_pixels(tile), 2 * NEAR + 1, mode="nearest")
    chosen = np.flatnonzero(pairing.counted & usable[low, high] & alike)
    match = pairing.match[chosen]
    flux, error = (
        np.where(match >= 0, column(primary(rows), f"{name}_{BAND}")[match], np.nan)
        for name in ("flux", "flux_err")
    )
    return _table(
        column(truth, f"flux_{BAND}")[chosen], magnitude[chosen], match >= 0, flux, error, False
    )


def _of_injected(rows: pa.Table) -> pa.Table:
    galaxies = rows.filter(pa.array(np.array(rows["kind"].to_pylist()) == GALAXY))
    names = (f"true_flux_{BAND}", "magnitude", "found", f"flux_{BAND}", f"flux_err_{BAND}")
    columns = [column(galaxies, name) for name in names]
    return _table(*columns, True, column(galaxies, "weight"))


def _table(
    true: Floats,
    magnitude: Floats,
    found: NDArray[np.generic],
    flux: Floats,
    error: Floats,
    injected: bool,
    weight: Floats | None = None,
) -> pa.Table:
    return pa.table(
        {
            "magnitude": magnitude,
            "weight": np.ones(len(true)) if weight is None else weight,
            "found": found.astype(np.float64),
            "error": flux / true - 1,
            "pull": (flux - true) / np.where(error > 0, error, np.nan),
            "injected": np.full(len(true), injected),
        }
    )


# Scores


def _complete(galaxies: Galaxies) -> float:
    if not len(galaxies.found):
        return float("nan")
    return float(np.average(galaxies.found, weights=galaxies.weight))


def _bias(galaxies: Galaxies) -> float:
    return middle(galaxies.error, galaxies.weight)


def _pull_width(galaxies: Galaxies) -> float:
    return spread(galaxies.pull, galaxies.weight)


SCORES: dict[str, tuple[Statistic, str]] = {
    "complete": (_complete, ".3f"),
    f"bias {BAND}": (_bias, "+.3f"),
    f"pull {BAND}": (_pull_width, ".2f"),
}


def _header() -> list[str]:
    names = [f"{name}, {what}" for name in SCORES for what in ("injected", "true", "difference")]
    return [BAND, "injected", "true", *names]


def _rows(table: pa.Table) -> Iterator[list[str]]:
    rng = np.random.default_rng(0)
    injected = column(table, "injected") > 0
    names = ("magnitude", "weight", "found", "error", "pull")
    galaxies = Galaxies(*(column(table, name) for name in names))
    for low, high in pairwise(EDGES):
        inside = (galaxies.magnitude >= low) & (galaxies.magnitude < high)
        pair = galaxies.take(inside & injected), galaxies.take(inside & ~injected)
        row = [f"{low:g}–{high:g}", *(str(len(each.found)) for each in pair)]
        for statistic, form in SCORES.values():
            row += [number(statistic(each), form) for each in pair]
            row.append(_difference(pair, statistic, form, rng))
        yield row


def _difference(
    pair: tuple[Galaxies, Galaxies], statistic: Statistic, form: str, rng: np.random.Generator
) -> str:
    """Return injected less true, and the interval of it by bootstrap."""
    one, other = (statistic(each) for each in pair)
    samples = [np.array([statistic(_again(each, rng)) for _ in range(DRAWS)]) for each in pair]
    low, high = np.nanpercentile(samples[0] - samples[1], INTERVAL)
    signed = f"+{form.lstrip('+')}"
    return f"{number(one - other, signed)} ({number(low, signed)}, {number(high, signed)})"


def _again(galaxies: Galaxies, rng: np.random.Generator) -> Galaxies:
    n = len(galaxies.found)
    return galaxies.take(rng.integers(n, size=n) if n else np.arange(0))


if __name__ == "__main__":
    main()
