"""Errors of isolated galaxies on correlated noise: ``python -m benchmarks.noise [--n 40]``.

Exponential galaxies of i = 23 to 25.5 stand alone on a tile whose noise is that of resampled
exposures (Lanczos-3, half a pixel).  The tile goes through detection, deblending and photometry
with its noise measured, and with that of independent pixels; the table has the standard deviation
of the pulls by true signal to noise in each band (the central 68 %), and that of white noise
beside them.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from benchmarks.circumstances import circumstances
from raydeblend.config import CatalogConfig
from raydeblend.evaluate.common.tables import markdown
from raydeblend.fits import find_tiles
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.rows import Measured
from raydeblend.pipeline.stages import DeblendCell, detect_cell, measure_cell
from raydeblend.simulate.population.stamps import find_stamps
from raydeblend.simulate.scene import Scene
from raydeblend.simulate.singles import SinglesPlan, singles_scene
from raydeblend.simulate.tiles import write_scene
from raydeblend.survey import get_survey

BANDS = ("g", "r", "i")
EDGES = (5, 10, 20, 50)
MAGNITUDES = (23.0, 24.0, 24.5, 25.0, 25.5)
RADII = (0.15, 0.4)
SPACING, LARGEST_CELL, MATCH = 56, 8192, 3.0
Array = NDArray[np.float64]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=40, help="galaxies of each of five magnitudes")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--photometry", default="joint", choices=("joint", "mixture"))
    options = parser.parse_args()
    print(circumstances(), flush=True)
    plan = SinglesPlan(("1",), MAGNITUDES, options.n, SPACING, RADII)
    stamps = find_stamps(None, "train")
    white = singles_scene(get_survey("HSC"), BANDS, plan, options.seed, stamps)
    scenes = {False: white, True: replace(white, correlated_noise=True)}
    runs = (("white", False, "correlated"), ("resampled", True, "correlated"),
            ("resampled", True, "independent"))  # fmt: skip
    lines = []
    for name, correlated, noise in runs:
        scene = scenes[correlated]
        found = catalog(scene, noise, options.photometry, options.seed)
        ratio = ", ".join(f"{value:.3f}" for value in found.noise.values())
        lines.append([name, noise, ratio, *widths(scene, found)])
    columns = [f"S/N {low}-{high}" for low, high in pairwise(EDGES)]
    print(markdown(["noise of the tile", "errors from", "noise ratio g, r, i", *columns], lines))


def catalog(scene: Scene, noise: str, photometry: str, seed: int) -> Measured:
    """Return the rows of a scene's only tile."""
    config = CatalogConfig(
        bands=BANDS,
        deblender="joint" if photometry == "joint" else "sep",
        photometry=photometry,
        noise=noise,
        cell_size=LARGEST_CELL,
    )
    with tempfile.TemporaryDirectory() as folder:
        write_scene(folder, scene, seed)
        (header,), _ = find_tiles(folder, BANDS)
        task = plan_survey([header], LARGEST_CELL, config.border).task(0)
        return measure_cell(DeblendCell(config)(detect_cell(task, config)), config)


def widths(scene: Scene, found: Measured) -> list[str]:
    """Return the width of the pulls in each bin of true signal to noise, and how many there are."""
    table = found.table
    places = np.column_stack([table["x"].to_numpy(), table["y"].to_numpy()])
    distance, row = KDTree(places).query(scene.xy)
    seen = distance < MATCH
    flux, error = (
        np.stack([table[f"{name}_{band}"].to_numpy()[row[seen]] for band in BANDS])
        for name in ("flux", "flux_err")
    )
    true = scene.flux[seen].T
    pull, snr = (flux - true) / error, true / error
    return [_width(pull[(snr > low) & (snr <= high)]) for low, high in pairwise(EDGES)]


def _width(pulls: Array) -> str:
    low, high = np.nanpercentile(pulls, (15.865, 84.135))
    return f"{(high - low) / 2:.2f} ± {(high - low) / 2 / np.sqrt(2 * len(pulls)) * 1.2:.2f}"


if __name__ == "__main__":
    main()
