"""Sérsic profiles as sums of Gaussians, against GalSim and exact curves of growth."""

import galsim
import numpy as np
import pytest
from scipy.special import gammainc, gammaincinv

from raydeblend.fit.sersic import (
    LEAST_INDEX,
    LOG_INDICES,
    MOST_INDEX,
    VARIANCES,
    brightness,
    index_weights,
    weights_at,
)


@pytest.mark.parametrize("index", [0.4, 0.7, 1.0, 2.0, 4.0])
def test_the_brightness_is_galsims(index):
    profile = galsim.Sersic(index, half_light_radius=1.0)
    radius = np.array([0.1, 0.5, 1.0, 2.5])
    expected = [profile.xValue(r, 0) for r in radius]
    np.testing.assert_allclose(brightness(index, radius), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("index", "off"), [(0.4, 2e-3), (0.6, 2e-3), (1.0, 1e-3), (1.5, 3e-3), (2.0, 6e-3), (4.0, 0.03)]
)
def test_the_light_within_a_radius_is_that_of_the_profile(index, off):
    radius = np.geomspace(0.05, 20, 60)
    exact = gammainc(2 * index, gammaincinv(2 * index, 0.5) * radius ** (1 / index))
    mixture = 1 - np.exp(-0.5 * radius[:, None] ** 2 / VARIANCES)
    assert np.abs(mixture @ index_weights(index) - exact).max() < off


def test_a_gaussian_is_one_of_them():
    weights = index_weights(0.5)
    variance = 1 / (2 * np.log(2))  # Of a Gaussian whose half-light radius is 1.
    assert abs(np.log(VARIANCES[weights.argmax()] / variance)) < 0.1
    assert weights.max() > 0.95


def test_the_series_is_what_the_fit_of_weights_gives():
    for index in np.geomspace(LEAST_INDEX, MOST_INDEX, 23):
        difference = weights_at(np.log(index)) - index_weights(index)
        assert np.abs(difference).max() < 2e-4
    assert weights_at(np.zeros((3, 2))).shape == (3, 2, len(VARIANCES))
    np.testing.assert_allclose(weights_at(np.linspace(*LOG_INDICES, 9)).sum(-1), 1, atol=1e-6)


def test_beyond_the_last_index_weights_stay():
    np.testing.assert_array_equal(weights_at(np.log(50.0)), weights_at(LOG_INDICES[1]))
    np.testing.assert_array_equal(weights_at(np.log(0.01)), weights_at(LOG_INDICES[0]))
