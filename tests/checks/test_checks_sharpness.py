"""Nothing that comes through the PSF is sharper than it; a hot pixel is."""

from dataclasses import replace

import numpy as np
import pytest

from raydeblend.checks.config import CHECKS
from raydeblend.checks.sharpness import count_sharp, peak_contrast
from raydeblend.psf import constant
from raydeblend.tile import Tile, TileHeader

SIDE, WIDTH = 64, 1.3


def gaussian(side: int, x: float, y: float, width: float = WIDTH) -> np.ndarray:
    rows, columns = np.indices((side, side))
    light = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * width**2))
    return light / (2 * np.pi * width**2)


def tile_of(light: np.ndarray) -> Tile:
    header = TileHeader("a", ("r",), (None,), light.shape, "", 0.2)
    noise = np.random.default_rng(2).normal(0, 1, light.shape)
    image = (light + noise)[None].astype(np.float32)
    nothing = np.zeros(image.shape, dtype=bool)
    psf = constant([gaussian(21, 10, 10).astype(np.float32)])
    return Tile(header, header.box, image, np.ones_like(image), nothing, nothing[0], psf)


def sharp_in(tile: Tile) -> int:
    (n,) = count_sharp(tile, np.ones(tile.image.shape[1:], dtype=bool), CHECKS)
    return n


def test_the_contrast_of_a_gaussian() -> None:
    # f(0) / f(1) = exp(1 / 2 s²)
    assert peak_contrast(gaussian(21, 10, 10)) == pytest.approx(np.exp(1 / (2 * WIDTH**2)))


@pytest.mark.parametrize("off", [0.0, 0.3, 0.5])
def test_no_star_is_sharper_than_the_psf(off: float) -> None:
    stars = [gaussian(SIDE, 10 + 20 * i + off, 30 + off / 2) for i in range(3)]
    assert sharp_in(tile_of(1e5 * np.sum(stars, axis=0))) == 0


def test_hot_pixels_are_and_those_beside_masked_ones_cannot_be_told() -> None:
    light = 1e3 * gaussian(SIDE, 20, 20)
    light[40, [10, 30, 50]] = 30
    tile = tile_of(light)
    assert sharp_in(tile) == 3
    unusable = tile.unusable.copy()
    unusable[0, 41, 10] = True
    assert sharp_in(replace(tile, unusable=unusable)) == 2


def test_a_psf_that_is_far_too_broad_is_told_by_a_star() -> None:
    psf = constant([gaussian(21, 10, 10, 2 * WIDTH).astype(np.float32)])
    narrow = tile_of(1e5 * gaussian(SIDE, 30, 30, WIDTH / 2))
    assert sharp_in(replace(narrow, psf=psf)) > 0
