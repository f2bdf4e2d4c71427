import numpy as np
import pytest

from raydeblend.simulate.bleeding import bleed


def test_charge_runs_both_ways_along_the_column_and_is_conserved():
    image = np.ones((41, 5))
    image[20, 2] = 91.0
    spilled = bleed(image, 10.0)
    assert spilled.sum() == pytest.approx(image.sum())
    # 81 too many: 40.5 each way, into room for 9 in each pixel.
    assert spilled[:, 2].tolist() == [1.0] * 15 + [5.5] + [10.0] * 9 + [5.5] + [1.0] * 15
    assert np.array_equal(np.delete(spilled, 2, axis=1), np.delete(image, 2, axis=1))


def test_a_pixel_that_is_full_passes_it_on():
    image = np.zeros((9, 1))
    image[3:6, 0] = 10.0
    image[4, 0] = 20.0
    assert bleed(image, 10.0)[:, 0].tolist() == [0, 0, 5, 10, 10, 10, 5, 0, 0]


def test_what_leaves_the_image_is_lost():
    image = np.full((3, 1), 100.0)
    assert bleed(image, 10.0).max() == 10


def test_nothing_saturated_nothing_changed():
    image = np.random.default_rng(0).uniform(0, 9, (20, 20))
    assert np.array_equal(bleed(image, 10.0), image)
