"""Catalogs of simulated tiles, made by the whole pipeline, for the protocols that score them."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import pyarrow as pa

from raydeblend import storage
from raydeblend.catalog import from_bytes, read_catalog
from raydeblend.config import CatalogConfig
from raydeblend.errors import ConfigError
from raydeblend.pipeline.preparation import RunRequest
from raydeblend.pipeline.survey import run_catalog

LOGGER = logging.getLogger(__name__)

TRUTH = "truth.parquet"


@dataclass(frozen=True)
class MadeCatalog:
    """A catalog, and the wall seconds that each of its sources took."""

    table: pa.Table
    seconds: float


def make_catalog(
    deblender: str,
    tiles: str,
    out: str,
    survey: str,
    bands: tuple[str, ...],
    cell_size: int,
    weights: str | None = None,
) -> MadeCatalog:
    """Catalog all tiles of a folder into `out`, anew.

    Raises
    ------
    ConfigError
        If a cell fails: nothing can be said of a catalog with holes.
    """
    config = CatalogConfig(
        bands=bands,
        survey=survey,
        deblender=deblender,
        cell_size=cell_size,
        weights=weights,
        inject=0,
    )
    began = time.monotonic()
    summary = run_catalog(tiles, out, config, RunRequest(overwrite=True))
    seconds = time.monotonic() - began
    LOGGER.info("%s: %d sources in %.0f s", deblender, summary.n_sources, seconds)
    if summary.n_failed:
        reasons = "; ".join(sorted({entry.reason for entry in summary.failures}))
        raise ConfigError(f"{summary.n_failed} cells failed with {deblender}: {reasons}")
    return MadeCatalog(read_catalog(out), seconds / max(summary.n_sources, 1))


def has_truth(tiles: str) -> bool:
    """Tell whether a folder of tiles has its table of truth."""
    return storage.exists(storage.join(tiles, TRUTH))


def read_truth(tiles: str) -> pa.Table:
    """Return the table of truth of a folder of tiles."""
    return from_bytes(storage.read_bytes(storage.join(tiles, TRUTH)))
