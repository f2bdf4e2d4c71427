"""Stamps smoothed by products of matrices are smoothed as by the filter."""

import numpy as np
import pytest

from raydeblend.detect.smoothing import LARGEST, smoothed, smoothed_stamp

WIDTH = 2.3


def test_a_point_becomes_a_gaussian_of_unit_sum() -> None:
    image = np.zeros((41, 61), dtype=np.float32)
    image[18, 25] = 1
    y, x = np.indices(image.shape)
    gaussian = np.exp(-((y - 18) ** 2 + (x - 25) ** 2) / (2 * WIDTH**2)) / (2 * np.pi * WIDTH**2)
    # The filter ends at four standard deviations, which holds all but 6e-5 an axis.
    np.testing.assert_allclose(smoothed_stamp(image, WIDTH), gaussian, atol=2e-4 * gaussian.max())


@pytest.mark.parametrize("shape", [(24, 31), (80, 80), (LARGEST, 50), (LARGEST + 1, 40)])
def test_it_is_the_filter_up_to_rounding(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    np.testing.assert_allclose(smoothed_stamp(image, WIDTH), smoothed(image, WIDTH), atol=1e-6)


def test_half_of_a_bright_edge_is_lost_beyond_it() -> None:
    ones = np.ones((60, 60), dtype=np.float32)
    assert smoothed_stamp(ones, WIDTH)[0, 30] == pytest.approx(0.5 * (1 + 0.1734), abs=2e-3)
