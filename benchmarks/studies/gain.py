"""What another source must gain: ``python -m benchmarks.studies.gain [--size 1400] [--data HST]``.

A field of the realistic population and a grid of galaxies that stand alone (validation split),
detected once and deblended with several least gains: galaxies found, rows without one, neighbors
told apart, by their distance; and galaxies alone of which there is more than one row.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from dataclasses import replace

import numpy as np
import pyarrow as pa

from benchmarks.circumstances import circumstances
from raydeblend.calibrate.scenes import detect_scene
from raydeblend.config import CatalogConfig
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.evaluate.common.tables import markdown
from raydeblend.evaluate.singles.scores import score_singles
from raydeblend.evaluate.survey.scores import compare
from raydeblend.pipeline.deblending import DeblendCell
from raydeblend.pipeline.detected import Detected
from raydeblend.pipeline.stages import measure_cell
from raydeblend.simulate.population.field import realistic_scene
from raydeblend.simulate.population.stamps import find_stamps
from raydeblend.simulate.scene import Grid, Scene, truth_table
from raydeblend.simulate.singles import SinglesPlan, singles_scene
from raydeblend.simulate.tiles import REALISTIC_DENSITY
from raydeblend.survey import get_survey

SURVEY, BANDS = "HSC", ("g", "r", "i")
GAINS = ((16.0, 2 / 3), (14.0, 2 / 3), (12.5, 2 / 3), (11.0, 2 / 3), (9.0, 2 / 3))
"""`SearchConfig.min_gain` and `gain_per_parameter`."""
MAGNITUDES = (22.0, 23.0, 24.0, 24.5, 25.0, 25.5, 26.0)
DISTANCES = (0.35, 0.5, 0.7, 1.0, 1.5)
FAINTEST = 25.5
"""Of the galaxies whose neighbors are counted."""
ALONE = SinglesPlan(repeats=8)
WITH_STRUCTURE = ("hudf", "real")
"""Classes of galaxies that are no smooth profile."""


def catalog(detected: Detected, gain: float, per_parameter: float) -> pa.Table:
    """Deblend and measure a field with another least gain."""
    deblender = JointDeblender.load("cpu")
    search = replace(deblender.config.search, min_gain=gain, gain_per_parameter=per_parameter)
    deblender = replace(deblender, config=replace(deblender.config, search=search))
    config = CatalogConfig(bands=BANDS, survey=SURVEY, deblender="joint", photometry="joint")
    return measure_cell(DeblendCell(config, deblender)(detected), config).table


def row(name: str, made: pa.Table, truth: pa.Table) -> list[str]:
    """Return a row of the table."""
    galaxies, rows = compare(made, truth, BANDS, survey=SURVEY)
    counts = [
        f"{np.mean(galaxies.found[_between(galaxies.magnitude, *each)]):.3f} / "
        f"{np.mean(~rows.pure[_between(rows.magnitude, *each)]):.3f}"
        for each in itertools.pairwise(MAGNITUDES)
    ]
    bright = galaxies.take(galaxies.magnitude < FAINTEST)
    pairs = [
        f"{np.mean(bright.found[_between(bright.separation, *each)]):.2f}"
        for each in itertools.pairwise(DISTANCES)
    ]
    return [name, *counts, *pairs]


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return (low <= values) & (values < high)


def alone(made: pa.Table, truth: pa.Table) -> list[str]:
    """Return how many of the smooth galaxies and of those with structure have several rows."""
    table = score_singles(made, truth, BANDS)
    structured = np.isin(table.cls, WITH_STRUCTURE)
    several = table.rows > 1
    return [f"{several[kind].sum()} of {kind.sum()}" for kind in (~structured, structured)]


def detect(scene: Scene, seed: int) -> tuple[Detected, pa.Table]:
    """Return what is detected of a scene, as one cell, and its truth."""
    with tempfile.TemporaryDirectory() as folder:
        config = CatalogConfig(bands=BANDS, survey=SURVEY)
        return detect_scene(scene, seed, folder, config), truth_table(scene)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1400)
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--data", default=None, help="folder of HST galaxies")
    arguments = parser.parse_args()
    survey, seed = get_survey(SURVEY), arguments.seed
    stamps = find_stamps(arguments.data, "validation")
    grid = Grid(1, arguments.size, 0, survey.pixel_scale)
    field, sky = detect(realistic_scene(survey, BANDS, grid, REALISTIC_DENSITY, seed, stamps), seed)
    single, each = detect(singles_scene(survey, BANDS, ALONE, seed, stamps), seed)
    table = []
    for gain, part in GAINS:
        of_field, of_single = (catalog(detected, gain, part) for detected in (field, single))
        table.append([*row(f"{gain:g}, {part:.2f}", of_field, sky), *alone(of_single, each)])
    bins = [f"i {a:g}–{b:g}" for a, b in itertools.pairwise(MAGNITUDES)]
    distances = [f'{a:g}–{b:g}"' for a, b in itertools.pairwise(DISTANCES)]
    print(circumstances())
    print("complete / spurious by magnitude; complete by distance of a neighbor, i < 25.5; split")
    print(markdown(["gain, per parameter", *bins, *distances, "smooth", "structured"], table))


if __name__ == "__main__":
    main()
