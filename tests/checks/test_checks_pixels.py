"""Masks that take away all sources are told from those of a few pixels without any."""

import numpy as np
import pytest

from raydeblend.checks.config import CHECKS
from raydeblend.checks.faults import CellFacts, find_faults
from raydeblend.checks.pixels import detected_pixels, pixel_facts
from raydeblend.checks.sources import bright_sources
from raydeblend.detect.footprints import DetectConfig, find_blends
from raydeblend.psf import constant
from raydeblend.tile import Tile, TileHeader

RULED_OUT = "the mask of band r rules out the light of sources"


def masked_sky(side: int) -> Tile:
    """Noise alone, of which three fifths are masked."""
    noise = np.random.default_rng(5).normal(0, 1, (1, side, side)).astype(np.float32)
    unusable = np.zeros(noise.shape, dtype=bool)
    unusable[:, : 3 * side // 5] = True
    return make_tile(noise, unusable)


def filled_by_a_galaxy(masked: float) -> Tile:
    """A galaxy larger than the tile, of which a part of the pixels is masked at random."""
    rng, side = np.random.default_rng(6), 100
    y, x = np.indices((side, side)) - side / 2
    light = 30 * np.exp(-np.hypot(y, x) / 30)
    image = (light + rng.normal(0, 1, light.shape))[None].astype(np.float32)
    return make_tile(image, rng.random(image.shape) < masked)


def make_tile(noise: np.ndarray, unusable: np.ndarray) -> Tile:
    shape = noise.shape
    header = TileHeader("a", ("r",), (None,), shape[1:], "", 0.2)
    y, x = np.indices((11, 11)) - 5
    stamp = np.exp(-(x**2 + y**2) / 6).astype(np.float32)
    psf = constant([stamp / stamp.sum()])
    return Tile(
        header, header.box, noise, np.ones_like(noise), unusable, np.zeros(shape[1:], bool), psf
    )


@pytest.mark.parametrize(("side", "is_suspect"), [(150, False), (400, True)])
def test_a_mask_is_suspect_where_sources_can_be_missed(side: int, is_suspect: bool) -> None:
    assert faults_of(masked_sky(side)) == is_suspect * [RULED_OUT]


def test_cosmic_rays_on_a_galaxy_that_fills_the_cell_are_no_fault() -> None:
    assert RULED_OUT not in faults_of(filled_by_a_galaxy(0.02))


def faults_of(tile: Tile) -> list[str]:
    detected = detected_pixels(tile.box, find_blends(tile, DetectConfig()))
    facts = pixel_facts(tile, tile.box, detected, CHECKS.pixels)
    sources = bright_sources([], tile.psf, tile.box, CHECKS.sources)
    return list(find_faults(CellFacts(("r",), (True,), facts, sources, False), CHECKS))
