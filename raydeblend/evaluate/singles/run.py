"""The protocol `singles`: grids of isolated galaxies through the whole pipeline, and the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.catalogs import TRUTH, has_truth, make_catalog, read_truth
from raydeblend.evaluate.common.rows import Row
from raydeblend.evaluate.singles.rows import make_rows
from raydeblend.evaluate.singles.scores import SingleTable, score_singles
from raydeblend.session import ray_session
from raydeblend.simulate.singles import LARGE, SinglesPlan
from raydeblend.simulate.tiles import simulate_singles

BANDS = ("g", "r", "i")
CELL_SIZE = 1024
PLANS: Mapping[str, SinglesPlan] = {"singles": SinglesPlan(), "large": LARGE}
LARGE_REPEATS = 2
"""Galaxies of each class and magnitude of the ordinary grid for one of the large ones."""


@dataclass(frozen=True)
class SingleScores:
    """What one deblender made of one grid, and where its tile is."""

    deblender: str
    grid: str
    table: SingleTable
    tiles: str


def evaluate_singles(
    deblenders: Sequence[str],
    repeats: int,
    seed: int,
    out: str,
    survey: str,
    stamps: str | None = None,
    tiles: str | None = None,
    weights: Mapping[str, str] | None = None,
) -> tuple[list[Row], list[SingleScores]]:
    """Catalog the grids with each deblender and score the catalogs.

    Parameters
    ----------
    repeats
        Galaxies of each class and magnitude.
    out
        Gets the tiles and the catalogs.
    stamps
        A folder of HST galaxies, of which those of the test split are drawn; clumpy galaxies stand
        for them without one.
    tiles
        A folder of `raydeblend simulate singles` instead.
    weights
        Of deblenders, by name, where they are not the shipped ones.

    Raises
    ------
    ConfigError
        If the tiles have no table of truth, or a catalog cannot be made.
    """
    if tiles is not None and not has_truth(tiles):
        raise ConfigError(f"{tiles} holds no {TRUTH}; make it with `raydeblend simulate singles`")
    rows: list[Row] = []
    scores = []
    with ray_session():
        folders = {"data": tiles} if tiles else _simulate(out, survey, repeats, seed, stamps)
        for grid, folder in folders.items():
            truth = read_truth(folder)
            for name in deblenders:
                place = storage.join(out, "catalogs", grid, name)
                own = (weights or {}).get(name)
                made = make_catalog(name, folder, place, survey, BANDS, CELL_SIZE, own)
                table = score_singles(made.table, truth, BANDS)
                scores.append(SingleScores(name, grid, table, folder))
                rows += make_rows(name, grid, table, made.seconds)
    return rows, scores


def _simulate(out: str, survey: str, repeats: int, seed: int, stamps: str | None) -> dict[str, str]:
    """Draw both grids; returns their folders."""
    folders = {}
    for name, plan in PLANS.items():
        each = max(1, repeats // LARGE_REPEATS) if name == "large" else repeats
        folders[name] = storage.join(out, "tiles", name)
        own = replace(plan, repeats=each)
        simulate_singles(folders[name], survey, BANDS, own, seed, "test", stamps, overwrite=True)
    return folders
