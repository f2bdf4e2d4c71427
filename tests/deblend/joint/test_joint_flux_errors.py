"""What the errors of fluxes hold beside the curvature, against sums by hand."""

import numpy as np
import pytest

from raydeblend.deblend.joint.config import PhotometryConfig
from raydeblend.deblend.joint.crowds.patches import Patch
from raydeblend.deblend.joint.flux_errors import (
    faint_part,
    known_shape_error,
    mean_index,
    summed_covariance,
    whole_covariance,
)
from raydeblend.deblend.joint.galaxies import Galaxies
from raydeblend.fit.parameters import LOG_INDEX


class Pixels:
    """As much of a stamp as is asked for."""

    def __init__(self, weight):
        self.weight = weight


def test_neighbors_and_a_wrong_profile_are_part_of_the_error():
    config = PhotometryConfig(
        neighbor_fraction=0.3, max_neighbor_errors=2.0, own_fraction=0.005, faint_fraction=0.2
    )
    flux = np.array([[1000.0, 1000.0, 10.0]])
    under = np.array([[0.0, 10.0, 500.0]])
    faint, index = np.array([[0.0, 0.1, 1.0]]), np.array([[1.0, 2.0, 1.0]])
    whole = whole_covariance(flux, 64.0 * np.eye(3)[None], under, faint, index, config)[0]
    # A tenth of the light of an index of 2 where it is hardly seen: 0.2 2 0.1 0.9 of 1000.
    expected = np.sqrt([64 + 25, 64 + 25 + 9 + 36**2, 64 + 0.05**2 + 4.8**2])
    np.testing.assert_allclose(np.sqrt(np.diag(whole)), expected)
    # What is wrong for one reason is wrong in all bands: 0.5 % of the fluxes, 3 and 4.8.
    assert whole[0, 1] == pytest.approx(5 * 5)
    assert whole[1, 2] == pytest.approx(5 * 0.05 + 3 * 4.8)


def test_light_is_seen_where_all_bands_together_show_it():
    light = np.array([[[2.0, 0.6, 0.3]], [[2.0, 0.6, 0.3]]])
    stamp, patch = Pixels(np.array([[[1.0, 1, 1]], [[4.0, 4, 4]]])), Patch.whole(light)
    # 0.6 sqrt(1 + 4) is 1.34 sigma, in the first band 0.6; of a flux of 4 a tenth is off the patch.
    faint = faint_part(stamp, [patch], np.array([[4.0, 2.9]]), 1.0)
    assert faint == pytest.approx(np.array([[1.4 / 4, 0.3 / 2.9]]))


def test_the_error_of_a_known_shape_is_that_of_one_number():
    light = np.array([[[3.0, 4.0]], [[1.0, 0.0]]])
    stamp = Pixels(np.array([[[1.0, 1.0]], [[0.0, 0.0]]]))
    error = known_shape_error(stamp, [Patch.whole(light)], np.array([[7.0, 1.0]]))
    assert error[0, 0] == pytest.approx(7 / 5)
    assert np.isnan(error[0, 1])


def test_parts_that_take_from_each_other_leave_the_whole_known():
    # Two parts with a correlation of -0.99, and another galaxy.
    own = np.array([100.0, 100.0, 9.0])[:, None, None] * np.array([[1.0, 0.5], [0.5, 1.0]])
    galaxies = Galaxies.of(np.array([0, 0, 2]), np.array([5.0, 4.0, 1.0]))
    known = np.array([[np.sqrt(2.0), 100.0], [0.1, 0.1]])
    whole = summed_covariance(galaxies, own, known, 2.0)
    assert np.sqrt(whole[0, 0, 0]) == pytest.approx(2 * np.sqrt(2))
    # Never more than the sum; and correlations between bands stay.
    assert whole[0, 1, 1] == pytest.approx(200)
    assert whole[0, 0, 1] == pytest.approx(0.5 * np.sqrt(8 * 200))
    np.testing.assert_allclose(whole[1], own[2])


def test_the_index_of_a_galaxy_is_that_of_its_light():
    theta = np.zeros((1, 9))
    theta[0, LOG_INDEX] = np.log(1.5)
    index = mean_index(theta, np.array([[0.0, 0.4, np.nan]]))
    assert index == pytest.approx(np.array([[1.5, 0.6 * 1.5 + 1.6, 1.5]]))
