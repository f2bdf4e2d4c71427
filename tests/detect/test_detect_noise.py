"""Noise without a variance plane."""

import numpy as np
import pytest

from raydeblend.detect.noise import difference_noise


def test_it_is_the_noise_whatever_galaxy_is_on_it() -> None:
    rng = np.random.default_rng(0)
    y, x = np.indices((80, 80))
    galaxy = 500 * np.exp(-((x - 40) ** 2 + (y - 38) ** 2) / (2 * 2.5**2))
    sigma = np.array([0.5, 3.0])[:, None, None]
    images = galaxy + sigma * rng.normal(size=(2, 80, 80))
    assert difference_noise(images) == pytest.approx([0.5, 3.0], rel=0.1)


def test_masked_pixels_do_not_count_and_nothing_has_none() -> None:
    image = np.random.default_rng(1).normal(size=(60, 60))
    image[:20] = np.nan
    assert difference_noise(image) == pytest.approx(1, rel=0.1)
    assert difference_noise(np.full((3, 8, 8), np.nan)).tolist() == [0, 0, 0]
