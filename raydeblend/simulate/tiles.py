"""FITS tiles of a simulated field: PSF, noise, saturation and masks.

`simulate_tiles` is the whole job, in parallel on Ray; `render_tile` draws one tile without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray

from raydeblend import storage
from raydeblend.config import check_seed
from raydeblend.errors import ConfigError
from raydeblend.fits import njy_per_count, write_band
from raydeblend.simulate.bleeding import bleed
from raydeblend.simulate.galaxies import faint_limit, read_catsim
from raydeblend.simulate.population.field import realistic_scene
from raydeblend.simulate.population.stamps import find_stamps
from raydeblend.simulate.scene import Grid, Scene, make_scene, write_truth
from raydeblend.simulate.singles import SinglesPlan, singles_scene
from raydeblend.survey import Band, draw_psf, get_survey, nominal_psf
from raydeblend.tile import Box

FloatArray = NDArray[np.float64]

# Galaxies per square arcmin: all with i < 25.4 by the counts of `raydeblend.simulate.galaxies`.
DENSITY = 60.0
# And all with i < 26.5, of which the faintest are no more than a ripple of the sky: `cosmos`.
REALISTIC_DENSITY = 135.0
# HSC writes its coadds at this zero point.
ZERO_POINT = 27.0
# The LSST pipelines' default planes and bits; the simulation sets BAD and SAT.
MASK_PLANES = {
    "BAD": 0,
    "SAT": 1,
    "INTRP": 2,
    "CR": 3,
    "EDGE": 4,
    "DETECTED": 5,
    "DETECTED_NEGATIVE": 6,
    "SUSPECT": 7,
    "NO_DATA": 8,
}
# A pixel saturates at the peak of a star of this magnitude in median seeing: about 18 in HSC's
# wide layer (Aihara et al. 2018, PASJ 70, S8).
SATURATION_MAGNITUDE = 18.0
# One bad column in this many, over part of its length.
BAD_COLUMNS_EVERY = 512

# Fractions of a source's light that may fall off its stamp.  The finest is taken that keeps the
# light lost below this many sky sigmas, all lost pixels together; a stamp ends at STAMP_MAX.
FOLDING = (5e-3, 1e-3, 2e-4)
LOST_SIGMAS = 10.0
STAMP_MAX = 512


POPULATIONS = ("cosmos", "parametric", "catsim")
"""cosmos: shapes, colors, clusters and stars as observed (`raydeblend.simulate.population`), behind
PSFs that differ, at HSC Wide's or LSST's ten-year depth.  parametric: exponential disks and small
bulges at random places.  catsim: rows of a CatSim table at random places."""


@dataclass(frozen=True)
class BandPixels:
    """One band of a tile: ``(y, x)`` image in nJy, mask bits and variance in nJy²."""

    image: FloatArray
    mask: NDArray[np.int32]
    variance: FloatArray


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

    Raises
    ------
    ConfigError
        If an argument or the output cannot be used.
    """
    table = get_survey(survey)
    if density is None:
        density = REALISTIC_DENSITY if population == "cosmos" else DENSITY
    _check(n_tiles, size, overlap, density)
    check_population(population, stamps, catalog)
    check_seed(seed)
    for band in bands:
        table.band(band)
    root = storage.absolute(out)
    storage.check_writable(root)
    grid = Grid(n_tiles, size, overlap, table.pixel_scale)
    if population == "cosmos":
        real = find_stamps(stamps, split)
        scene = realistic_scene(table, bands, grid, density, seed, real)
    else:
        pool = read_catsim(str(catalog), bands, faint_limit(density)) if catalog else None
        scene = make_scene(table, bands, grid, density, seed, pool)
    for tile in _write_all(scene, seed, root, address):
        if on_tile:
            on_tile(scene.grid.name(tile))
    return _written(out, scene)


def simulate_singles(
    out: str,
    survey: str,
    bands: tuple[str, ...],
    plan: SinglesPlan,
    seed: int = 0,
    split: str = "train",
    stamps: str | None = None,
) -> SimulatedTiles:
    """Write one tile of isolated galaxies on a grid and its ``truth.parquet`` below `out`.

    Parameters
    ----------
    split, stamps
        See `raydeblend.simulate.population.stamps.find_stamps`.

    Raises
    ------
    ConfigError
        If an argument or the output cannot be used.
    """
    table = get_survey(survey)
    check_seed(seed)
    for band in bands:
        table.band(band)
    root = storage.absolute(out)
    storage.check_writable(root)
    scene = singles_scene(table, bands, plan, seed, find_stamps(stamps, split))
    write_tile(scene, 0, seed, root)
    return _written(out, scene)


def _written(out: str, scene: Scene) -> SimulatedTiles:
    """Write the truth, and say what there is."""
    truth = storage.join(out, "truth.parquet")
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


def check_population(population: str, stamps: str | None, catalog: str | None) -> None:
    """Check that the files named are those that a population uses.

    Raises
    ------
    ConfigError
        If it is unknown, lacks its catalog, or would not use what is named.
    """
    if population not in POPULATIONS:
        raise ConfigError(f"unknown population {population!r}; known are {', '.join(POPULATIONS)}")
    if (population == "catsim") != (catalog is not None):
        raise ConfigError("the population catsim, and no other, is read from a --catalog")
    if stamps is not None and population != "cosmos":
        raise ConfigError(f"the population {population} has no real galaxies; leave out --stamps")


def _write_all(scene: Scene, seed: int, out: str, address: str | None) -> Iterator[int]:
    """Write all tiles in parallel; yields the number of each as it is done."""
    if scene.grid.n_tiles == 1:
        yield write_tile(scene, 0, seed, out)
        return
    import ray

    from raydeblend.session import ray_session, shared_folder

    with ray_session(address), shared_folder(out):
        task = ray.remote(write_tile)
        shared = ray.put(scene)
        waiting = [task.remote(shared, tile, seed, out) for tile in range(scene.grid.n_tiles)]
        while waiting:
            done, waiting = ray.wait(waiting)
            yield from ray.get(done)


def write_tile(scene: Scene, tile: int, seed: int, out: str) -> int:
    """Render one tile and write it as HSC writes coadds; returns its number."""
    header = scene.grid.wcs_header(scene.grid.box(tile))
    scale = njy_per_count(ZERO_POINT)
    for index, pixels in enumerate(render_tile(scene, tile, seed)):
        band = scene.bands[index]
        write_band(
            path=tile_path(out, scene.grid.name(tile), band),
            image=pixels.image / scale,
            mask=pixels.mask,
            variance=pixels.variance / scale**2,
            wcs_header=header,
            psf=draw_psf(scene.psf(index), scene.grid.pixel_scale),
            flux_mag0=10 ** (0.4 * ZERO_POINT),
            mask_planes=MASK_PLANES,
        )
    return tile


def render_tile(scene: Scene, tile: int, seed: int) -> list[BandPixels]:
    """Draw one tile in every band; `seed` and the tile's number set the noise."""
    box = scene.grid.box(tile)
    return [
        observe(
            draw_sources(scene, box, band),
            scene.survey.band(name),
            _saturation(scene, name),
            np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, tile, band))),
            scene.bleeds,
        )
        for band, name in enumerate(scene.bands)
    ]


def draw_sources(scene: Scene, box: Box, band: int) -> FloatArray:
    """Draw all sources that reach into `box` without noise: ``(y, x)`` in nJy.

    A source's pixels do not depend on the box, so that neighboring tiles agree.
    """
    canvas = galsim.ImageD(galsim.BoundsI(box.x0, box.x1 - 1, box.y0, box.y1 - 1))
    psf = scene.psf(band)
    sky = scene.survey.band(scene.bands[band]).sky_sigma
    reach = box.grow(STAMP_MAX // 2)
    for row in [row for row, (x, y) in enumerate(scene.xy) if reach.contains(y, x)]:
        source = galsim.Convolve(
            scene.profile(row, band).withFlux(scene.flux[row, band]),
            psf,
            gsparams=galsim.GSParams(folding_threshold=_folding(scene.flux[row, band], sky)),
        )
        _add(canvas, source, scene.xy[row], scene.grid.pixel_scale)
    return np.asarray(canvas.array)


def _folding(flux: float, sky_sigma: float) -> float:
    allowed = LOST_SIGMAS * sky_sigma / flux
    return next((value for value in FOLDING if value <= allowed), FOLDING[-1])


def _add(canvas: galsim.Image, source: galsim.GSObject, xy: FloatArray, scale: float) -> None:
    """Add a source to the canvas where its stamp overlaps it."""
    half = min(source.getGoodImageSize(scale), STAMP_MAX) // 2
    x, y = (int(np.floor(value + 0.5)) for value in xy)
    bounds = galsim.BoundsI(x - half, x + half, y - half, y + half)
    shared = bounds & canvas.bounds
    if shared.isDefined():
        stamp = galsim.ImageD(bounds)
        source.drawImage(stamp, scale=scale, center=galsim.PositionD(*xy))
        canvas[shared] += stamp[shared]


def _saturation(scene: Scene, band: str) -> float:
    """Return the saturation level in nJy per pixel."""
    psf = nominal_psf(scene.survey, band, pixel_scale=scene.grid.pixel_scale)
    return float(psf.max()) * njy_per_count(SATURATION_MAGNITUDE)


def observe(
    image: FloatArray,
    band: Band,
    saturation: float,
    rng: np.random.Generator,
    bleeds: bool = False,
) -> BandPixels:
    """Add sky and photon noise, saturation (whose charge bleeds or is lost) and bad columns.

    The variance is that of the electrons counted, source and sky, as the HSC pipeline writes
    it (Bosch et al. 2018, PASJ 70, S5).
    """
    if bleeds:
        image = bleed(image, saturation)
    expected = band.sky_electrons + np.maximum(image, 0) * band.electrons_per_njy
    electrons = rng.poisson(expected)
    observed = np.asarray(electrons - band.sky_electrons) / band.electrons_per_njy
    saturated = (observed >= saturation) | (image >= saturation)
    bad = bad_columns(image.shape, rng)
    observed = np.where(bad, 0, np.minimum(observed, saturation))
    mask = bad * (1 << MASK_PLANES["BAD"]) + saturated * (1 << MASK_PLANES["SAT"])
    variance = np.maximum(electrons, 1) / band.electrons_per_njy**2
    return BandPixels(np.asarray(observed), mask.astype(np.int32), np.asarray(variance))


def bad_columns(shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw dead stretches of columns, half a column long on average: ``(y, x)``, true if bad."""
    bad = np.zeros(shape, dtype=bool)
    for _ in range(rng.poisson(shape[1] / BAD_COLUMNS_EVERY)):
        column = rng.integers(shape[1])
        start, length = rng.integers(shape[0], size=2)
        bad[start : start + length, column] = True
    return bad
