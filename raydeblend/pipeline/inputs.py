"""The tiles of a survey: their headers are read in the driver, or of many tiles by all machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import ray

from raydeblend.config import AUTO, DEFAULT_SURVEY, CatalogConfig
from raydeblend.errors import ConfigError
from raydeblend.fits import TileFailure, find_tiles
from raydeblend.fits.headers import Planned, TileFiles, choose_layout, read_headers
from raydeblend.fits.mask import check_planes
from raydeblend.tile import TileHeader

# Headers of fewer tiles are read in the driver; of more, this many by each task.
FEW_TILES, TILES_PER_TASK = 2000, 200


def with_layout(config: CatalogConfig, input: str) -> CatalogConfig:
    """Return the configuration with the layout of `input`, its survey and its bad planes.

    With a manifest each row may have a layout of its own, and its own bad planes.

    Raises
    ------
    ConfigError
        See `raydeblend.fits.headers.choose_layout`; or if the layout has no such mask planes.
    """
    patterns = config.image_pattern, config.psf_pattern
    layout = choose_layout(input, config.bands, config.layout, *patterns, config.manifest)
    check_planes(config.bad_planes or (), layout)
    by_layout = config.bad_planes is None and config.manifest is None
    bad_planes = layout.mask.bad if by_layout else config.bad_planes
    survey = layout.survey or DEFAULT_SURVEY if config.survey == AUTO else config.survey
    return replace(config, layout=layout.name, bad_planes=bad_planes, survey=survey)


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
        As `raydeblend.fits.find_tiles` does; and if no tile has one of the bands, or none has two.
    """
    headers, unusable = find_tiles(
        input,
        config.bands,
        config.image_pattern,
        config.psf_pattern,
        manifest=config.manifest,
        zeropoint=config.zeropoint,
        layout=config.layout,
        read=partial(_read_headers, connect=connect),
    )
    files = zip(*(header.files for header in headers), strict=True)
    nowhere = [band for band, own in zip(config.bands, files, strict=False) if not any(own)]
    if nowhere:
        raise ConfigError(
            f"no tile of {input} has an image in {', '.join(nowhere)}; leave that out of --bands, "
            "or say how the files are named"
        )
    _check_bands_meet(input, config.bands, headers)
    return headers, unusable


def _check_bands_meet(input: str, bands: tuple[str, ...], headers: Sequence[TileHeader]) -> None:
    """Refuse tiles of one band each, which are those of one place under several names."""
    if len(bands) < 2 or not headers or any(len(_bands_of(header)) > 1 for header in headers):
        return
    tiles = {_bands_of(header)[0]: header.name for header in reversed(headers)}
    apart = ", ".join(f"{band} of {tiles[band]}" for band in bands)
    raise ConfigError(
        f"no tile of {input} has two of the bands ({apart}); give the files of a tile one name, "
        "or list them in a manifest"
    )


def _bands_of(header: TileHeader) -> list[str]:
    return [file.band for file in header.files if file is not None]


def examples(headers: Sequence[TileHeader], config: CatalogConfig) -> list[str]:
    """Return what every machine must see as this one does: an image of the first tile, weights."""
    images = [file.image for header in headers[:1] for file in header.files if file][:1]
    # A name without a folder is that of shipped weights.
    return images + ([config.weights] if config.weights and "/" in config.weights else [])


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
