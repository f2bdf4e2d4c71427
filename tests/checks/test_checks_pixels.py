"""Masks that take away all sources are told from those of a few pixels without any."""

import numpy as np
import pytest

from raydeblend.checks.config import CHECKS
from raydeblend.checks.faults import CellFacts, find_faults
from raydeblend.checks.pixels import pixel_facts
from raydeblend.checks.sources import bright_sources
from raydeblend.psf import constant
from raydeblend.tile import Tile, TileHeader


def masked_sky(side: int) -> Tile:
    """Noise alone, of which three fifths are masked."""
    shape = (1, side, side)
    unusable = np.zeros(shape, dtype=bool)
    unusable[:, : 3 * side // 5] = True
    noise = np.random.default_rng(5).normal(0, 1, shape).astype(np.float32)
    header = TileHeader("a", ("r",), (None,), shape[1:], "", 0.2)
    psf = constant([np.pad(np.ones((1, 1), np.float32), 5)])
    return Tile(
        header, header.box, noise, np.ones_like(noise), unusable, np.zeros(shape[1:], bool), psf
    )


@pytest.mark.parametrize(("side", "is_suspect"), [(150, False), (400, True)])
def test_a_mask_is_suspect_where_sources_can_be_missed(side: int, is_suspect: bool) -> None:
    tile = masked_sky(side)
    facts = pixel_facts(tile, tile.box, [])
    sources = bright_sources([], tile.psf, tile.box, CHECKS)
    faults = list(find_faults(CellFacts(("r",), (True,), facts, sources, False), CHECKS))
    assert faults == is_suspect * ["the mask of band r rules out the light of sources"]
