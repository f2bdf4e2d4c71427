"""The protocol `survey`: simulated HSC tiles through the whole catalog pipeline, and the scores."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from raydeblend import storage
from raydeblend.catalog import from_bytes, read_catalog
from raydeblend.config import CatalogConfig
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.rows import Row
from raydeblend.evaluate.survey.rows import make_rows
from raydeblend.evaluate.survey.scores import SURVEY, DetectionTable, GalaxyTable, compare
from raydeblend.pipeline.survey import run_catalog
from raydeblend.session import ray_session
from raydeblend.simulate.tiles import simulate_tiles

LOGGER = logging.getLogger(__name__)

BANDS = ("g", "r", "i")
SIZE, OVERLAP = 768, 64
TRUTH = "truth.parquet"


@dataclass(frozen=True)
class SurveyScores:
    """What one deblender made of the tiles."""

    deblender: str
    galaxies: GalaxyTable
    detections: DetectionTable


def evaluate_survey(
    deblenders: Sequence[str],
    n_tiles: int,
    seed: int,
    out: str,
    tiles: str | None = None,
    size: int = SIZE,
) -> tuple[list[Row], list[SurveyScores]]:
    """Catalog tiles with each deblender, from detection to photometry, and score the catalogs.

    Parameters
    ----------
    n_tiles
        How many tiles of `size` pixels to simulate; the galaxies are those of the parametric
        population, new ones for each seed.
    out
        Gets ``tiles`` and a catalog for each deblender.
    tiles
        A folder of `raydeblend simulate tiles`, in g r i, instead.

    Raises
    ------
    ConfigError
        If the tiles have no table of truth, or a catalog cannot be made.
    """
    if tiles is not None and not storage.exists(storage.join(tiles, TRUTH)):
        raise ConfigError(f"{tiles} holds no {TRUTH}; make tiles with `raydeblend simulate tiles`")
    rows: list[Row] = []
    scores = []
    with ray_session():
        source = tiles or _simulate(storage.join(out, "tiles"), n_tiles, size, seed)
        truth = from_bytes(storage.read_bytes(storage.join(source, TRUTH)))
        for name in deblenders:
            score, seconds = _score(name, source, truth, out, size)
            scores.append(score)
            rows += make_rows(name, score.galaxies, score.detections, BANDS, seconds)
    return rows, scores


def _simulate(tiles: str, n: int, size: int, seed: int) -> str:
    LOGGER.info("simulating %d tiles of %d pixels in %s", n, size, ", ".join(BANDS))
    simulate_tiles(tiles, SURVEY, BANDS, n, size, min(OVERLAP, size // 8), seed)
    return tiles


def _score(
    name: str, tiles: str, truth: pa.Table, out: str, size: int
) -> tuple[SurveyScores, float]:
    """Return the scores of one deblender, and its wall time per catalog source."""
    result = storage.join(out, "catalogs", name)
    config = CatalogConfig(bands=BANDS, survey=SURVEY, deblender=name, cell_size=max(64, size))
    began = time.monotonic()
    summary = run_catalog(tiles, result, config, overwrite=True)
    seconds = time.monotonic() - began
    LOGGER.info("%s: %d sources in %.0f s", name, summary.n_sources, seconds)
    if summary.n_failed:
        reasons = "; ".join(sorted({entry.reason for entry in summary.failures}))
        raise ConfigError(f"{summary.n_failed} cells failed with {name}: {reasons}")
    galaxies, detections = compare(read_catalog(result), truth, BANDS)
    return SurveyScores(name, galaxies, detections), seconds / max(summary.n_sources, 1)
