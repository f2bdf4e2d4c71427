"""The protocol `survey`: simulated tiles through the whole catalog pipeline, and the scores."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.catalogs import (
    TRUTH,
    MadeCatalog,
    has_truth,
    make_catalog,
    read_truth,
)
from raydeblend.evaluate.common.rows import Row
from raydeblend.evaluate.survey.rows import make_rows, make_star_rows, pair_rows
from raydeblend.evaluate.survey.scores import DetectionTable, GalaxyTable, compare
from raydeblend.evaluate.survey.stars import score_stars
from raydeblend.session import ray_session
from raydeblend.simulate.tiles import check_population, simulate_neighbors, simulate_tiles

LOGGER = logging.getLogger(__name__)

BANDS = ("g", "r", "i")
SIZE, OVERLAP = 768, 64
FIELDS, PAIRS, STARS = "fields", "pairs", "stars"
N_PAIRS, N_STARS = 100, 9
"""For each tile of field."""


@dataclass(frozen=True)
class Sky:
    """What is simulated.

    Attributes
    ----------
    n_tiles
        Of `size` pixels; pairs and stars in proportion.
    tiles
        A folder of `raydeblend simulate tiles` with truth that is scored instead.
    population, catalog, stamps
        See `raydeblend.simulate.tiles.simulate_tiles`.
    """

    survey: str = "HSC"
    population: str = "cosmos"
    n_tiles: int = 4
    seed: int = 0
    size: int = SIZE
    tiles: str | None = None
    catalog: str | None = None
    stamps: str | None = None

    def check(self) -> None:
        """Check what can be checked before any work.

        Raises
        ------
        ConfigError
            If the tiles have no table of truth, or the population cannot be drawn.
        """
        if self.tiles is not None:
            if not has_truth(self.tiles):
                raise ConfigError(
                    f"{self.tiles} holds no {TRUTH}; make tiles with `raydeblend simulate tiles`"
                )
            return
        check_population(self.population, self.stamps, self.catalog)


@dataclass(frozen=True)
class SurveyScores:
    """What one deblender made of the fields: scores, and for pictures catalog, truth and tiles."""

    deblender: str
    galaxies: GalaxyTable
    detections: DetectionTable
    catalog: pa.Table | None = None
    truth: pa.Table | None = None
    tiles: str = ""


def evaluate_survey(
    deblenders: Sequence[str], sky: Sky, out: str, weights: Mapping[str, str] | None = None
) -> tuple[list[Row], list[SurveyScores]]:
    """Catalog tiles with each deblender, from detection to photometry, and score the catalogs.

    Parameters
    ----------
    out
        Gets ``tiles`` and the catalogs of each deblender.
    weights
        Of deblenders, by name, where they are not the shipped ones.

    Raises
    ------
    ConfigError
        If the tiles have no table of truth, or a catalog cannot be made.
    """
    sky.check()
    rows: list[Row] = []
    scores = []
    with ray_session():
        folders = {FIELDS: sky.tiles} if sky.tiles else _simulate(sky, out)
        for name in deblenders:
            for kind, folder in folders.items():
                place = storage.join(out, "catalogs", kind, name)
                own, cell = (weights or {}).get(name), max(64, sky.size)
                made = make_catalog(name, folder, place, sky.survey, BANDS, cell, own)
                truth = read_truth(folder)
                if kind == FIELDS:
                    scores.append(_score_fields(name, made, truth, folder, sky.survey))
                    rows += _field_rows(scores[-1], made.seconds)
                if kind == PAIRS:
                    pairs, _ = compare(made.table, truth, BANDS, survey=sky.survey)
                    rows += pair_rows(name, pairs, BANDS, made.seconds)
                if kind == STARS or STARS not in folders:
                    stars = score_stars(made.table, truth, BANDS)
                    rows += make_star_rows(name, stars, made.seconds)
    return rows, scores


def _simulate(sky: Sky, out: str) -> dict[str, str]:
    """Draw fields, and for `cosmos` close pairs and stars; returns their folders."""
    LOGGER.info("simulating %d tiles of %d pixels in %s", sky.n_tiles, sky.size, ", ".join(BANDS))
    folders = {FIELDS: storage.join(out, "tiles", FIELDS)}
    simulate_tiles(
        folders[FIELDS],
        sky.survey,
        BANDS,
        sky.n_tiles,
        sky.size,
        min(OVERLAP, sky.size // 8),
        sky.seed,
        population=sky.population,
        split="test",
        stamps=sky.stamps,
        catalog=sky.catalog,
        overwrite=True,
    )
    if sky.population != "cosmos":
        return folders
    for kind, n in ((PAIRS, N_PAIRS), (STARS, N_STARS)):
        folders[kind] = storage.join(out, "tiles", kind)
        simulate_neighbors(
            folders[kind],
            sky.survey,
            BANDS,
            kind,
            n * sky.n_tiles,
            sky.seed,
            "test",
            sky.stamps,
            overwrite=True,
        )
    return folders


def _score_fields(
    name: str, made: MadeCatalog, truth: pa.Table, folder: str, survey: str
) -> SurveyScores:
    galaxies, detections = compare(made.table, truth, BANDS, survey=survey)
    return SurveyScores(name, galaxies, detections, made.table, truth, folder)


def _field_rows(score: SurveyScores, seconds: float) -> list[Row]:
    return make_rows(score.deblender, score.galaxies, score.detections, BANDS, seconds)
