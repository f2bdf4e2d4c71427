"""Variance of images that bring none: fill, whole counts, half-empty images."""

from pathlib import Path

import numpy as np
import pytest
from tile_files import planes, write

from raydeblend import fits
from raydeblend.fits.noise import is_fill, measure_noise, neighbor_noise
from raydeblend.flags import Flag
from raydeblend.survey import get_survey
from raydeblend.tile import Box

SHAPE = (300, 400)
SIGMA = 2.0


def sky(sigma: float = SIGMA, level: float = 0.0) -> np.ndarray:
    return np.random.default_rng(5).normal(level, sigma, SHAPE)


@pytest.mark.parametrize("fill", [0.0, -32768.0, 65535.0, 1e-30, np.nan])
@pytest.mark.parametrize("columns", [4, 240, 390])
def test_fill_is_no_data_and_no_noise(fill: float, columns: int) -> None:
    image = sky()
    image[:, :columns] = fill
    noise = measure_noise(image)
    assert np.sqrt(noise.variance) == pytest.approx(SIGMA, rel=0.03)
    empty = is_fill(image, noise) | np.isnan(image)
    assert empty[:, :columns].all()
    assert not empty[:, columns:].any()


def test_single_pixels_of_zero_are_no_data() -> None:
    image = sky()
    holes = np.random.default_rng(0).random(SHAPE) < 0.3
    image[holes] = 0
    noise = measure_noise(image)
    assert np.array_equal(is_fill(image, noise), holes)
    assert np.sqrt(noise.variance) == pytest.approx(SIGMA, rel=0.03)


@pytest.mark.parametrize("sigma", [0.25, 0.3, 0.4, 0.5, 0.7, 1.0, 2.0, 5.0, 30.0])
@pytest.mark.parametrize("level", [0.0, 0.4, 1000.0])
def test_whole_counts(sigma: float, level: float) -> None:
    """The noise is that of the counts themselves, and no level is fill."""
    image = np.round(sky(sigma, level))
    noise = measure_noise(image)
    assert np.sqrt(noise.variance) == pytest.approx(image.std(), rel=0.04)
    assert is_fill(image, noise).mean() < 0.01
    assert neighbor_noise(image) == pytest.approx(image.std(), rel=0.1)


@pytest.mark.parametrize("sigma", [0.3, 0.7, 2.0])
@pytest.mark.parametrize("fill", [0, -32768])
def test_whole_counts_half_empty(sigma: float, fill: int) -> None:
    counts = np.round(sky(sigma))
    image = counts.copy()
    image[:, :200] = fill
    noise = measure_noise(image)
    assert np.sqrt(noise.variance) == pytest.approx(counts.std(), rel=0.04)
    assert is_fill(image, noise)[:, :200].mean() > 0.99
    assert is_fill(image, noise)[:, 215:].mean() < 0.01
    assert neighbor_noise(image) == pytest.approx(counts.std(), rel=0.1)


def test_sources_do_not_widen_it() -> None:
    image = np.round(sky(0.4))
    y, x = np.indices(SHAPE)
    for place in range(20, 280, 40):
        image += np.round(300 * np.exp(-((y - place) ** 2 + (x - place) ** 2) / 18))
    assert np.sqrt(measure_noise(image).variance) == pytest.approx(0.459, rel=0.1)


def test_correlated_noise_is_that_of_a_pixel() -> None:
    image = sky()
    image = (image + np.roll(image, 1, 0) + np.roll(image, 1, 1)) / np.sqrt(3)
    assert np.sqrt(measure_noise(image).variance) == pytest.approx(SIGMA, rel=0.03)


def test_a_tile_has_one_noise_in_every_box(tmp_path: Path) -> None:
    """And SWarp's fill is unusable there."""
    image = np.random.default_rng(1).normal(0, SIGMA, (700, 200)).astype(np.float32)
    image[350:] *= 1.5
    image[:, :60] = 0
    write(tmp_path, "a_g.fits", planes(image=image))
    ((header,), _) = fits.find_tiles(str(tmp_path), ("g",))
    tiles = [
        fits.read_tile(header, box, get_survey("HSC"))
        for box in (header.box, Box(0, 50, 100, 200), Box(600, 50, 700, 180))
    ]
    assert len({float(tile.variance[0, 0, -1]) for tile in tiles}) == 1
    for tile in tiles:
        assert tile.flags & Flag.VARIANCE_ESTIMATED
        width = 60 - tile.box.x0
        assert tile.unusable[0, :, :width].all()
        assert not tile.unusable[0, :, width:].any()


def test_nothing_has_no_noise() -> None:
    for image in (np.full((30, 30), np.nan), np.zeros((30, 30)), np.zeros((2, 2))):
        assert measure_noise(image).variance == 0
        assert neighbor_noise(image) == 0
