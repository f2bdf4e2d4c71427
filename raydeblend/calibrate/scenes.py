"""Simulated scenes: detected as one cell of a catalog, and their truth in its pixels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from raydeblend.config import CatalogConfig
from raydeblend.evaluate.survey.unrecognized import RADIUS
from raydeblend.fits import find_tiles
from raydeblend.pipeline.detected import Detected
from raydeblend.pipeline.plan import CellTask
from raydeblend.pipeline.stages import detect_cell
from raydeblend.simulate.pairs import with_pairs
from raydeblend.simulate.population.field import realistic_scene
from raydeblend.simulate.population.stamps import find_stamps
from raydeblend.simulate.scene import Grid, Scene
from raydeblend.simulate.tiles import REALISTIC_DENSITY, write_tile
from raydeblend.survey import get_survey
from raydeblend.tile import Cell

PAIRS = 0.3
"""Fraction of the galaxies of a tile with more pairs that are moved next to others."""


def sky_scene(survey: str, bands: tuple[str, ...], size: int, seed: int, paired: bool) -> Scene:
    """Return a tile of `size` pixels of the realistic population, with more close pairs if asked.

    Galaxies are those of the training split.
    """
    observed = get_survey(survey)
    grid = Grid(1, size, 0, observed.pixel_scale)
    stamps = find_stamps(None, "train")
    scene = realistic_scene(observed, bands, grid, REALISTIC_DENSITY, seed, stamps)
    return with_pairs(scene, PAIRS, RADIUS, seed) if paired else scene


def detect_scene(scene: Scene, seed: int, folder: str, config: CatalogConfig) -> Detected:
    """Write a scene of one tile into a folder, and detect its footprints as one cell."""
    write_tile(scene, 0, seed, folder)
    header = find_tiles(folder, config.bands, config.image_pattern, config.psf_pattern)[0][0]
    return detect_cell(CellTask(Cell("whole", header, header.box, header.box)), config)


def truth_places(
    truth: pa.Table, wcs: str, band: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the true sources' pixels ``(n, 2)`` (x, y) and fluxes ``(n,)`` in a band."""
    sky = np.column_stack([truth["ra"].to_numpy(), truth["dec"].to_numpy()])
    place = WCS(fits.Header.fromstring(wcs)).wcs_world2pix(sky, 0)
    return np.asarray(place), truth[f"flux_{band}"].to_numpy()
