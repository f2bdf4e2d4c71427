"""The sky behind simulated tiles: one pixel grid, the sources on it, and the table of truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import galsim
import numpy as np
import pyarrow as pa
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from raydeblend import storage, tables
from raydeblend.simulate.galaxies import (
    KINDS,
    STAR,
    Galaxies,
    GalaxyTable,
    draw_galaxies,
    faint_limit,
)
from raydeblend.simulate.psf_variation import PsfVariation
from raydeblend.simulate.stars import draw_stars
from raydeblend.survey import NJY_ZERO_POINT, Survey, psf_profile
from raydeblend.tile import Box

FloatArray = NDArray[np.float64]
Column = tuple[str, str, str, NDArray[Any]]
"""Name, unit, description and values."""

# The tangent point: the COSMOS field, whose star counts are used (deg, ICRS).
CENTER = (150.1, 2.2)
# Sources this far off the tiles (pixels) are drawn too, since their wings reach in.
MARGIN = 64
REFERENCE_BAND = "i"


@dataclass(frozen=True)
class Grid:
    """A near-square grid of square tiles on one tangent plane, like patches of an HSC tract."""

    n_tiles: int
    size: int
    overlap: int
    pixel_scale: float

    @property
    def columns(self) -> int:
        """Tiles in a row."""
        return int(np.ceil(np.sqrt(self.n_tiles)))

    def name(self, tile: int) -> str:
        """Return the tile's name, by row and column."""
        return f"r{tile // self.columns:02d}c{tile % self.columns:02d}"

    def box(self, tile: int) -> Box:
        """Return the tile's pixels in the grid."""
        step = self.size - self.overlap
        row, column = divmod(tile, self.columns)
        return Box(0, 0, self.size, self.size).shift(row * step, column * step)

    @property
    def extent(self) -> Box:
        """The smallest box that holds all tiles."""
        boxes = [self.box(tile) for tile in range(self.n_tiles)]
        return Box(0, 0, max(box.y1 for box in boxes), max(box.x1 for box in boxes))

    def wcs_header(self, box: Box) -> fits.Header:
        """Return the WCS of a box of the grid: one tangent point in the middle of the field."""
        height, width = self.extent.shape
        header = fits.Header()
        for axis, (name, value) in enumerate(zip(("RA---TAN", "DEC--TAN"), CENTER, strict=True), 1):
            header[f"CTYPE{axis}"] = name
            header[f"CUNIT{axis}"] = "deg"
            header[f"CRVAL{axis}"] = value
        # FITS counts from 1.
        header["CRPIX1"] = (width + 1) / 2 - box.x0
        header["CRPIX2"] = (height + 1) / 2 - box.y0
        header["CD1_1"] = -self.pixel_scale / 3600
        header["CD2_2"] = self.pixel_scale / 3600
        header["RADESYS"] = "ICRS"
        return header


@dataclass(frozen=True)
class Scene:
    """The sources of a field; galaxies come first, then stars.

    Attributes
    ----------
    xy
        ``(n, 2)`` positions in grid pixels.
    flux
        ``(n, bands)`` nJy.
    psfs
        Of each band; the survey's nominal ones where empty.
    bleeds
        Whether charge beyond saturation runs along the columns.
    correlated_noise
        Whether the noise is that of resampled exposures (`raydeblend.simulate.resampling`).
    variation
        How PSFs differ from place to place from those of the bands.
    """

    survey: Survey
    grid: Grid
    xy: FloatArray
    flux: FloatArray
    galaxies: GalaxyTable
    psfs: tuple[galsim.GSObject, ...] = ()
    bleeds: bool = False
    correlated_noise: bool = False
    variation: PsfVariation | None = None

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands."""
        return self.galaxies.bands

    @property
    def is_star(self) -> NDArray[np.bool_]:
        """``(n,)``."""
        return np.arange(len(self.xy)) >= len(self.galaxies)

    def profile(self, row: int, band: int) -> galsim.GSObject:
        """Return a source of unit flux before the PSF."""
        if row >= len(self.galaxies):
            return galsim.DeltaFunction()
        return self.galaxies.profile(row, band)

    def psf(self, band: int) -> galsim.GSObject:
        """Return the usual PSF of a band."""
        return self.psfs[band] if self.psfs else psf_profile(self.survey, self.bands[band])

    def psf_at(self, band: int, x: float, y: float) -> galsim.GSObject:
        """Return the PSF of a band at a place, where it changes smoothly if at all."""
        psf = self.psf(band)
        return psf if self.variation is None else self.variation.smooth(psf, band, x, y)

    def on_tiles(self) -> NDArray[np.bool_]:
        """``(n,)``: true for a source whose center lies on at least one tile."""
        boxes = [self.grid.box(tile) for tile in range(self.grid.n_tiles)]
        return np.array([any(box.contains(y, x) for box in boxes) for x, y in self.xy], dtype=bool)


def make_scene(
    survey: Survey,
    bands: tuple[str, ...],
    grid: Grid,
    density: float,
    seed: int,
    pool: Galaxies | None = None,
) -> Scene:
    """Draw the sources of a field: galaxies and stars at random positions.

    Parameters
    ----------
    density
        Galaxies per square arcmin.  It sets the faint limit, so that the counts at each magnitude
        stay those of the sky.
    pool
        Galaxies to draw from, instead of the parametric ones.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0,)))
    field = grid.extent.grow(MARGIN)
    area = float(np.prod(field.shape)) * (grid.pixel_scale / 60) ** 2
    faint = faint_limit(density)
    n_galaxies = int(rng.poisson(density * area))
    if pool is None:
        galaxies = draw_galaxies(n_galaxies, bands, rng, faint)
    else:
        galaxies = pool.take(rng.integers(len(pool), size=n_galaxies))
    stars = draw_stars(area, survey, bands, rng)
    n = len(galaxies) + len(stars)
    return Scene(
        survey=survey,
        grid=grid,
        xy=rng.uniform((field.x0, field.y0), (field.x1, field.y1), (n, 2)) - 0.5,
        flux=np.concatenate([10 ** (0.4 * (NJY_ZERO_POINT - galaxies.magnitude)), stars]),
        galaxies=galaxies,
    )


def write_truth(path: str, scene: Scene) -> int:
    """Write `truth_table` as Parquet; returns the number of its rows."""
    table = truth_table(scene)
    storage.write_bytes(path, tables.to_parquet(table))
    return int(table.num_rows)


def truth_table(scene: Scene) -> pa.Table:
    """Return one row per source whose center lies on a tile, units in the field metadata.

    Sizes, shapes and redshifts are null for stars.
    """
    reference = REFERENCE_BAND if REFERENCE_BAND in scene.bands else scene.bands[-1]
    flux = scene.flux[:, scene.bands.index(reference)]
    ra, dec = WCS(scene.grid.wcs_header(scene.grid.extent)).wcs_pix2world(scene.xy, 0).T
    columns: list[Column] = [
        ("id", "", "number of the source in the field", np.arange(len(scene.xy))),
        ("ra", "deg", "right ascension, ICRS", ra),
        ("dec", "deg", "declination, ICRS", dec),
        ("x", "pixel", "on the field's grid, from 0", scene.xy[:, 0]),
        ("y", "pixel", "on the field's grid, from 0", scene.xy[:, 1]),
        ("is_star", "", "a star, not a galaxy", scene.is_star),
        ("magnitude", "mag", f"AB, total, {reference} band", NJY_ZERO_POINT - 2.5 * np.log10(flux)),
        *(
            (f"flux_{b}", "nJy", f"total flux, {b} band", scene.flux[:, j])
            for j, b in enumerate(scene.bands)
        ),
        *_shape_columns(scene, scene.bands.index(reference)),
    ]
    keep = scene.on_tiles()
    fields = [
        pa.field(name, pa.array(values[:0]).type, metadata={"unit": unit, "description": text})
        for name, unit, text, values in columns
    ]
    # NaN marks what a star does not have.
    arrays = [pa.array(values[keep], from_pandas=True) for *_, values in columns]
    return pa.table(arrays, schema=pa.schema(fields))


def _shape_columns(scene: Scene, band: int) -> list[Column]:
    shapes = scene.galaxies.shapes(band)
    n_stars = len(scene.xy) - len(scene.galaxies)
    name = scene.bands[band]
    bulges = zip(scene.bands, shapes.bulge_fraction.T, strict=True)
    columns: list[Column] = [
        (column, unit, text, np.concatenate([values, np.full(n_stars, np.nan)]))
        for column, unit, text, values in (
            ("half_light_radius", "arcsec", f"circularised, before the PSF, {name}", shapes.r50),
            ("r50", "arcsec", "the same, of the whole galaxy", shapes.r50),
            ("g1", "", "reduced shear along the pixel axes, before the PSF", shapes.g[:, 0]),
            ("g2", "", "reduced shear along the diagonals, before the PSF", shapes.g[:, 1]),
            ("n", "", "Sérsic index; null for what has none", shapes.index),
            ("bulge_fraction", "", f"of the flux, {name} band", shapes.bulge_fraction[:, band]),
            *((f"bulge_fraction_{b}", "", f"of the flux, {b} band", part) for b, part in bulges),
            ("redshift", "", "cosmological", scene.galaxies.redshift),
        )
    ]
    stars = np.full(n_stars, STAR)
    columns += [
        ("kind", "", "how it is drawn: " + ", ".join(KINDS), np.concatenate([shapes.kind, stars])),
        ("cls", "", "class in a protocol, else the kind", np.concatenate([shapes.cls, stars])),
    ]
    return columns
