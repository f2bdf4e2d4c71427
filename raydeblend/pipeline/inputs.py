"""The tiles of a survey: their headers are read in the driver, or of many tiles by all machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import ray

from raydeblend.config import CatalogConfig
from raydeblend.fits import TileFailure, find_tiles
from raydeblend.fits.headers import Planned, TileFiles, read_headers
from raydeblend.tile import TileHeader

# Headers of fewer tiles are read in the driver; a task reads so many.
FEW_TILES, TILES_PER_TASK = 2000, 200


def find_survey_tiles(
    input: str, config: CatalogConfig, connect: Callable[[], None]
) -> tuple[list[TileHeader], list[TileFailure]]:
    """Return the headers of the input's tiles, and the tiles that cannot be used.

    Parameters
    ----------
    connect
        Connects to Ray, if that is not done yet; called only for many tiles.

    Raises
    ------
    ConfigError
        As `raydeblend.fits.find_tiles` does.
    """
    return find_tiles(
        input,
        config.bands,
        config.image_pattern,
        config.psf_pattern,
        manifest=config.manifest,
        zeropoint=config.zeropoint,
        layout=config.layout,
        read=partial(_read_headers, connect=connect),
    )


def example_images(headers: Sequence[TileHeader]) -> list[str]:
    """Return an image of the first tile, which every machine must see as this one does."""
    return [file.image for header in headers[:1] for file in header.files if file][:1]


def _read_headers(
    tiles: Sequence[TileFiles],
    bands: tuple[str, ...],
    zeropoint: float | None,
    connect: Callable[[], None],
) -> list[Planned]:
    """Read the headers of many tiles on all machines, those of few in this process."""
    if len(tiles) < FEW_TILES:
        return read_headers(tiles, bands, zeropoint)
    connect()
    task = ray.remote(read_headers)
    starts = range(0, len(tiles), TILES_PER_TASK)
    waiting = [task.remote(tiles[i : i + TILES_PER_TASK], bands, zeropoint) for i in starts]
    return [tile for part in ray.get(waiting) for tile in part]
