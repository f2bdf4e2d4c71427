"""FITS tiles of a simulated sky, with their truth.

`simulate_tiles` is the whole job, in parallel on Ray; `write_tile` writes one tile without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raydeblend import access, storage
from raydeblend.config import check_seed
from raydeblend.errors import ConfigError
from raydeblend.fits import njy_per_count, write_band
from raydeblend.outputs import files_in, refuse_earlier
from raydeblend.simulate.galaxies import faint_limit, read_catsim
from raydeblend.simulate.neighbors import pairs_scene, stars_scene
from raydeblend.simulate.population.field import realistic_scene
from raydeblend.simulate.population.stamps import find_stamps
from raydeblend.simulate.psf_variation import draw_variation
from raydeblend.simulate.rendering import MASK_PLANES, BandPixels, render_tile
from raydeblend.simulate.scene import Grid, Scene, make_scene, write_truth
from raydeblend.simulate.singles import SinglesPlan, singles_scene
from raydeblend.survey import Survey, draw_psf, get_survey

# Galaxies per square arcmin: all with i < 25.4 by the counts of `raydeblend.simulate.galaxies`.
DENSITY = 60.0
# And all with i < 26.5, of which the faintest are no more than a ripple of the sky: `cosmos`.
REALISTIC_DENSITY = 135.0
# HSC writes its coadds at this zero point.
ZERO_POINT = 27.0
POPULATIONS = ("cosmos", "parametric", "catsim")
"""cosmos: shapes, colors, clusters and stars as observed (`raydeblend.simulate.population`), behind
PSFs that differ, at HSC Wide's or LSST's ten-year depth.  parametric: exponential disks and small
bulges at random places.  catsim: rows of a CatSim table at random places."""

LEAST_CELL = 32
"""Pixels along a side of a cell of the PSF."""
TRUTH = "truth.parquet"
SIMULATED = re.compile(r"r\d+c\d+_\w+\.fits")
"""Names of the tiles' files, see `raydeblend.simulate.scene.Grid.name` and `tile_path`."""

NEIGHBORS = {"pairs": pairs_scene, "stars": stars_scene}


@dataclass(frozen=True)
class SimulatedTiles:
    """What was written: the tiles' names, their FITS files and the table of true sources."""

    tiles: tuple[str, ...]
    images: tuple[str, ...]
    truth: str
    n_sources: int


def simulate_tiles(
    out: str,
    survey: str,
    bands: tuple[str, ...],
    n_tiles: int,
    size: int,
    overlap: int = 0,
    seed: int = 0,
    density: float | None = None,
    address: str | None = None,
    on_tile: Callable[[str], None] | None = None,
    population: str = "parametric",
    split: str = "train",
    stamps: str | None = None,
    catalog: str | None = None,
    psf_variation: str = "none",
    psf_cells: int = 3,
    overwrite: bool = False,
    correlated_noise: bool = False,
) -> SimulatedTiles:
    """Write FITS tiles ``{tile}_{band}.fits`` on one sky grid and ``truth.parquet`` below `out`.

    Parameters
    ----------
    size, overlap
        Side of a tile and what neighbors share, in pixels.
    seed
        The same seed gives the same pixels, however many workers draw them.
    density
        Galaxies per square arcmin (by default 135 for ``cosmos``, else 60); a denser field is a
        deeper one, since the counts set the faint limit.
    address
        Ray cluster; by default ``RAY_ADDRESS``, else this machine.  One tile needs no Ray.
    on_tile
        Called with the name of each tile when it is written.
    population
        One of `POPULATIONS`.
    split, stamps
        ``cosmos``: the real galaxies; see `raydeblend.simulate.population.stamps.find_stamps`.
    catalog
        ``catsim``: the CatSim table.
    psf_variation, psf_cells
        One of `psf_variation.KINDS`, and the cells along a tile's side for which PSFs are written.
    overwrite
        Whether the tiles of an earlier simulation in `out` are replaced, all of them.
    correlated_noise
        Whether the noise is that of resampled exposures (`raydeblend.simulate.resampling`).

    Raises
    ------
    ConfigError
        If an argument or the output cannot be used, or `out` holds tiles.
    """
    table = _checked_survey(survey, bands)
    if density is None:
        density = REALISTIC_DENSITY if population == "cosmos" else DENSITY
    _check(n_tiles, size, overlap, density)
    if psf_variation != "none":
        _check_cells(psf_cells, size)
    check_population(population, stamps, catalog)
    check_seed(seed)
    _make_room(out, overwrite)
    grid = Grid(n_tiles, size, overlap, table.pixel_scale)
    variation = draw_variation(psf_variation, psf_cells, grid.extent, n_tiles, len(bands), seed)
    if population == "cosmos":
        real = find_stamps(stamps, split)
        scene = realistic_scene(table, bands, grid, density, seed, real)
    else:
        pool = read_catsim(str(catalog), bands, faint_limit(density)) if catalog else None
        scene = make_scene(table, bands, grid, density, seed, pool)
    scene = replace(scene, variation=variation, correlated_noise=correlated_noise)
    return write_scene(out, scene, seed, address, on_tile)


def simulate_singles(
    out: str,
    survey: str,
    bands: tuple[str, ...],
    plan: SinglesPlan,
    seed: int = 0,
    split: str = "train",
    stamps: str | None = None,
    overwrite: bool = False,
) -> SimulatedTiles:
    """Write one tile of isolated galaxies on a grid and its ``truth.parquet`` below `out`.

    Parameters
    ----------
    split, stamps
        See `raydeblend.simulate.population.stamps.find_stamps`.
    overwrite
        See `simulate_tiles`.

    Raises
    ------
    ConfigError
        If an argument or the output cannot be used, or `out` holds tiles.
    """
    table = _checked_survey(survey, bands)
    check_seed(seed)
    _make_room(out, overwrite)
    scene = singles_scene(table, bands, plan, seed, find_stamps(stamps, split))
    return write_scene(out, scene, seed)


def simulate_neighbors(
    out: str,
    survey: str,
    bands: tuple[str, ...],
    kind: str,
    n: int,
    seed: int = 0,
    split: str = "train",
    stamps: str | None = None,
    overwrite: bool = False,
) -> SimulatedTiles:
    """Write one tile of close pairs or of stars with galaxies next to them, with its truth.

    Parameters
    ----------
    kind
        ``pairs`` or ``stars``, of which there are `n`.
    split, stamps, overwrite
        See `simulate_singles`.

    Raises
    ------
    ConfigError
        If an argument or the output cannot be used, or `out` holds tiles.
    """
    table = _checked_survey(survey, bands)
    check_seed(seed)
    if kind not in NEIGHBORS:
        raise ConfigError(f"unknown kind {kind!r} of neighbors; known: {', '.join(NEIGHBORS)}")
    if n < 1:
        raise ConfigError(f"the number of {kind} must be at least 1, not {n}")
    _make_room(out, overwrite)
    scene = NEIGHBORS[kind](table, bands, n, seed, find_stamps(stamps, split))
    return write_scene(out, scene, seed)


def _make_room(out: str, overwrite: bool) -> None:
    """Check that tiles can be written to `out`; remove those of an earlier simulation there."""
    access.check_writable(storage.absolute(out))
    tiles = [path for path in files_in(out) if path.endswith((".fits", f"/{TRUTH}"))]
    refuse_earlier(out, tiles, overwrite)
    # The truth would not know of tiles that are left, and a catalog would be made of them too.
    foreign = [p for p in tiles if not SIMULATED.fullmatch(p.rpartition("/")[2])]
    refuse_earlier(out, [p for p in foreign if not p.endswith(TRUTH)], overwrite=False)
    storage.remove_files(tiles)


def _checked_survey(name: str, bands: tuple[str, ...]) -> Survey:
    survey = get_survey(name)
    for band in bands:
        survey.band(band)
    return survey


def write_scene(
    out: str,
    scene: Scene,
    seed: int,
    address: str | None = None,
    on_tile: Callable[[str], None] | None = None,
) -> SimulatedTiles:
    """Write all tiles of a scene and the table of its sources; see `simulate_tiles`."""
    for tile in _write_all(scene, seed, storage.absolute(out), address):
        if on_tile:
            on_tile(scene.grid.name(tile))
    truth = storage.join(out, TRUTH)
    n_sources = write_truth(truth, scene)
    tiles = tuple(scene.grid.name(tile) for tile in range(scene.grid.n_tiles))
    return SimulatedTiles(
        tiles=tiles,
        images=tuple(tile_path(out, tile, band) for tile in tiles for band in scene.bands),
        truth=truth,
        n_sources=n_sources,
    )


def tile_path(out: str, tile: str, band: str) -> str:
    """Return where one band of a tile lies."""
    return storage.join(out, f"{tile}_{band}.fits")


def _check(n_tiles: int, size: int, overlap: int, density: float) -> None:
    if n_tiles < 1:
        raise ConfigError(f"the number of tiles must be at least 1, not {n_tiles}")
    if size < 32:
        raise ConfigError(f"a tile must have at least 32 pixels a side, not {size}")
    if not 0 <= overlap < size:
        raise ConfigError(f"the overlap must be from 0 to below the tile's {size}, not {overlap}")
    if not 0 < density <= 1000:
        raise ConfigError(f"the density must be between 0 and 1000 per arcmin², not {density}")


def _check_cells(cells: int, size: int) -> None:
    if not 1 <= cells <= size // LEAST_CELL:
        raise ConfigError(
            f"a tile of {size} pixels a side may have from 1 to {size // LEAST_CELL} cells along "
            f"it for its PSF, not {cells}"
        )


def check_population(population: str, stamps: str | None, catalog: str | None) -> None:
    """Check that the files named are those that a population uses.

    Raises
    ------
    ConfigError
        If it is unknown, lacks its catalog, or would not use what is named.
    """
    if population not in POPULATIONS:
        raise ConfigError(f"unknown population {population!r}; known: {', '.join(POPULATIONS)}")
    if (population == "catsim") != (catalog is not None):
        raise ConfigError("the population catsim, and no other, is read from a --catalog")
    if stamps is not None and population != "cosmos":
        raise ConfigError(f"the population {population} has no real galaxies; leave out --stamps")


def _write_all(scene: Scene, seed: int, out: str, address: str | None) -> Iterator[int]:
    """Write all tiles in parallel; yields the number of each as it is done."""
    if scene.grid.n_tiles == 1:
        yield write_tile(scene, 0, seed, out)
        return
    yield from write_in_parallel(write_tile, scene, scene.grid.n_tiles, seed, out, address)


def write_in_parallel(
    write: Callable[[Any, int, int, str], int],
    sky: object,
    n_tiles: int,
    seed: int,
    out: str,
    address: str | None = None,
) -> Iterator[int]:
    """Call `write` with a sky, the number of each tile, the seed and `out` on all processors."""
    import ray

    from raydeblend.session import ray_session, shared_folder

    with ray_session(address), shared_folder(out):
        task, shared = ray.remote(write), ray.put(sky)
        waiting = [task.remote(shared, tile, seed, out) for tile in range(n_tiles)]
        while waiting:
            done, waiting = ray.wait(waiting)
            yield from ray.get(done)


def write_tile(scene: Scene, tile: int, seed: int, out: str) -> int:
    """Render one tile and write it as HSC writes coadds; returns its number."""
    write_pixels(scene, tile, render_tile(scene, tile, seed), out)
    return tile


def write_pixels(scene: Scene, tile: int, bands: Sequence[BandPixels], out: str) -> None:
    """Write the pixels of all bands of a tile."""
    header = scene.grid.wcs_header(scene.grid.box(tile))
    scale = njy_per_count(ZERO_POINT)
    for index, pixels in enumerate(bands):
        band = scene.bands[index]
        write_band(
            path=tile_path(out, scene.grid.name(tile), band),
            image=pixels.image / scale,
            mask=pixels.mask,
            variance=pixels.variance / scale**2,
            wcs_header=header,
            psf=tile_psf(scene, tile, index),
            flux_mag0=10 ** (0.4 * ZERO_POINT),
            mask_planes=MASK_PLANES,
            psf_jumps=scene.variation is None or not scene.variation.is_smooth,
        )


def tile_psf(scene: Scene, tile: int, band: int) -> NDArray[np.float32]:
    """Return the PSF of a tile ``(py, px)``, or ``(cells y, cells x, py, px)`` where it varies."""
    psf, scale, variation = scene.psf(band), scene.grid.pixel_scale, scene.variation
    if variation is None:
        return draw_psf(psf, scale)
    cells = variation.in_cells(psf, tile, scene.grid.box(tile), band)
    stamps = np.stack([draw_psf(own, scale) for _, own in cells])
    return stamps.reshape(variation.cells, variation.cells, *stamps.shape[1:])
