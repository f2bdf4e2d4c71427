"""Errors of isolated galaxies of the population: ``python -m benchmarks.studies.pulls``.

Galaxies of the realistic population stand alone on grids, the bright ones farther apart, and go
through detection, the joint fit and photometry.  The table has, by magnitude in i and band, the
width of the pulls (F − F_true)/σ (the central 68 %, and 1.4826 MAD), how many are beyond 5σ and the
median bias, of those that have one row.  The real ones among them need ``--stamps``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from benchmarks.circumstances import circumstances
from benchmarks.noise import catalog
from raydeblend.evaluate.common.tables import markdown
from raydeblend.simulate.population.depth import as_observed
from raydeblend.simulate.population.draw import draw_realistic
from raydeblend.simulate.population.seeing import draw_seeing
from raydeblend.simulate.population.stamps import Stamps, find_stamps
from raydeblend.simulate.scene import Scene
from raydeblend.simulate.singles import MAX_AXIS, grid_places
from raydeblend.survey import NJY_ZERO_POINT, get_survey

BANDS = ("g", "r", "i")
GRIDS = ((18.0, 22.5, 96, 0.25), (22.5, 26.2, 48, 0.75))
"""Magnitudes in i, pixels between centers, and the part of the galaxies."""
EDGES = (18, 19, 20, 21, 22, 23, 24, 24.5, 25, 25.5, 26)
MATCH, ALONE, FAR = 3.0, 20.0, 5.0
"""Pixels to a galaxy's own row, and within which it has no other; sigma."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pulls:
    """Of galaxies with one row: magnitude ``(n,)``, pull and relative error ``(n, bands)``."""

    magnitude: Array
    pull: Array
    error: Array


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1200, help="galaxies")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--stamps", help="a folder of HST galaxies")
    parser.add_argument("--split", default="validation", help="of the HST galaxies")
    options = parser.parse_args()
    print(circumstances(), flush=True)
    stamps = find_stamps(options.stamps, options.split)
    rng = np.random.default_rng(options.seed)
    grids = [draw_grid(grid, options.n, rng, stamps) for grid in GRIDS]
    parts = [measure(scene, options.seed) for scene in grids]
    names = ("magnitude", "pull", "error")
    pulls = Pulls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    header = ["i", "n", *(f"{b}: width, MAD, > 5σ, bias" for b in BANDS)]
    print(markdown(header, list(lines(pulls))))


def draw_grid(
    grid: tuple[float, float, int, float], n: int, rng: np.random.Generator, stamps: Stamps
) -> Scene:
    """Draw galaxies with magnitudes at random within those of a grid of `GRIDS`."""
    bright, faint, spacing, part = grid
    survey = get_survey("HSC")
    deep = as_observed(survey)
    magnitude = rng.uniform(bright, faint, int(part * n))
    galaxies = draw_realistic(magnitude, BANDS, rng, stamps)
    modulus = np.nan_to_num(np.hypot(*galaxies.g.T))
    widest = MAX_AXIS * spacing * deep.pixel_scale * np.sqrt((1 - modulus) / (1 + modulus))
    np.minimum(galaxies.r50, widest, out=galaxies.r50, where=galaxies.stamp < 0)
    places, xy = grid_places(len(galaxies), spacing, survey.pixel_scale, rng)
    flux = 10 ** (0.4 * (NJY_ZERO_POINT - galaxies.magnitude))
    return Scene(deep, places, xy, flux, galaxies, draw_seeing(deep, BANDS, rng))


def measure(scene: Scene, seed: int) -> Pulls:
    """Return the pulls of a grid's galaxies that have one row."""
    table = catalog(scene, "correlated", "joint", seed).table
    flux, error = (
        np.stack([table[f"{name}_{band}"].to_numpy(zero_copy_only=False) for band in BANDS], -1)
        for name in ("flux", "flux_err")
    )
    rows = KDTree(np.column_stack([table["x"].to_numpy(), table["y"].to_numpy()]))
    distance, row = rows.query(scene.xy)
    near = rows.query_ball_point(scene.xy, ALONE, return_length=True)
    own = (distance < MATCH) & (near == 1) & np.isfinite(flux[row]).all(1)
    true, row = scene.flux[own], row[own]
    off = flux[row] - true
    return Pulls(NJY_ZERO_POINT - 2.5 * np.log10(true[:, -1]), off / error[row], off / true)


def lines(pulls: Pulls) -> Iterator[list[str]]:
    """Yield the lines of the table."""
    for low, high in pairwise(EDGES):
        chosen = (pulls.magnitude >= low) & (pulls.magnitude < high)
        if chosen.any():
            columns = zip(pulls.pull[chosen].T, pulls.error[chosen].T, strict=True)
            yield [f"{low:g}–{high:g}", str(chosen.sum()), *(_cell(*column) for column in columns)]


def _cell(pull: Array, error: Array) -> str:
    low, high = np.percentile(pull, (15.865, 84.135))
    mad = 1.4826 * np.median(np.abs(pull - np.median(pull)))
    far = 100 * np.mean(np.abs(pull) > FAR)
    return f"{(high - low) / 2:.2f}, {mad:.2f}, {far:.1f} %, {100 * np.median(error):+.1f} %"


if __name__ == "__main__":
    main()
