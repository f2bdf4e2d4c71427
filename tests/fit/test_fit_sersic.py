"""Sérsic profiles as sums of Gaussians, against GalSim and exact curves of growth."""

import galsim
import numpy as np
import pytest

from raydeblend.fit.sersic import (
    BULGE_INDEX,
    BULGE_VARIANCES,
    LEAST_INDEX,
    LOG_INDICES,
    MOST_INDEX,
    VARIANCES,
    index_weights,
    light_within,
    weights_at,
)

RADII = np.geomspace(0.02, 30, 97)


def mixture_within(weights, variances):
    return (1 - np.exp(-0.5 * RADII[:, None] ** 2 / variances)) @ weights


@pytest.mark.parametrize("index", [0.4, 0.7, 1.0, 2.0, 4.0, 6.0])
def test_the_light_within_a_radius_is_galsims(index):
    profile = galsim.Sersic(index, half_light_radius=1.0)
    edges = np.geomspace(1e-6, 3, 3000)
    bright = np.array([profile.xValue(r, 0) for r in np.sqrt(edges[1:] * edges[:-1])])
    expected = np.cumsum(bright * np.pi * np.diff(edges**2))
    outer = edges[1:] > 0.1
    np.testing.assert_allclose(light_within(index, edges[1:][outer]), expected[outer], rtol=1e-3)


@pytest.mark.parametrize(
    ("index", "off"),
    [(0.3, 4e-3), (0.5, 2e-4), (0.7, 1e-3), (1.0, 5e-4), (2.5, 1e-3), (4.0, 2e-3), (6.0, 6e-3)],
)
def test_the_light_within_any_radius_is_that_of_the_profile(index, off):
    found = mixture_within(index_weights(index), VARIANCES)
    assert np.abs(found - light_within(index, RADII)).max() < off


def test_a_bulge_needs_fewer_gaussians():
    found = mixture_within(index_weights(BULGE_INDEX, BULGE_VARIANCES), BULGE_VARIANCES)
    assert np.abs(found - light_within(BULGE_INDEX, RADII)).max() < 4e-3


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
