"""A simulated scene as a catalog meets it: one tile, detected as one cell."""

from __future__ import annotations

from raydeblend.config import CatalogConfig
from raydeblend.fits import find_tiles
from raydeblend.pipeline.parts import Detected
from raydeblend.pipeline.plan import CellTask
from raydeblend.pipeline.stages import detect_cell
from raydeblend.simulate.scene import Scene
from raydeblend.simulate.tiles import write_tile
from raydeblend.tile import Cell


def detect_scene(scene: Scene, seed: int, folder: str, config: CatalogConfig) -> Detected:
    """Write a scene of one tile into a folder, and find the footprints of all of it."""
    write_tile(scene, 0, seed, folder)
    header = find_tiles(folder, config.bands, config.image_pattern, config.psf_pattern)[0][0]
    return detect_cell(CellTask(Cell("whole", header, header.box, header.box)), config)
