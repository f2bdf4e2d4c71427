"""Sources of a fit that are one galaxy, by hand."""

import numpy as np

from raydeblend.deblend.joint.crowds.patches import Patch
from raydeblend.deblend.joint.galaxies import Galaxies
from raydeblend.tile import Box

# The third source belongs to the first, which is fainter than the second but for it.
CHOSEN, LIGHT = np.array([0, 1, 0]), np.array([5.0, 7.0, 3.0])


def test_the_brightest_whole_comes_first():
    galaxies = Galaxies.of(CHOSEN, LIGHT)
    assert galaxies.brightest.tolist() == [0, 1]
    assert galaxies.part_of.tolist() == [0, 1, 0]
    alone = Galaxies.of(np.arange(3), LIGHT)
    assert alone.brightest.tolist() == [1, 0, 2]
    assert alone.part_of.tolist() == [1, 0, 2]


def test_sums_are_of_the_parts():
    galaxies = Galaxies.of(CHOSEN, LIGHT)
    values = np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal(galaxies.sums(values), [[4.0, 6.0], [2.0, 3.0]])
    assert galaxies.sums(values.astype(np.float32)).dtype == np.float32
    none = Galaxies.of(np.zeros(0, dtype=np.intp), np.zeros(0))
    assert none.sums(np.zeros((0, 2))).shape == (0, 2)


def test_patches_are_put_together_where_they_lie():
    def patch(y, x, value):
        light = np.full((1, 2, 2), value, dtype=np.float32)
        return Patch(Box(y, x, y + 2, x + 2), light, np.ones((2, 2), dtype=bool))

    first, second = Galaxies.of(CHOSEN, LIGHT).patches(
        [patch(1, 1, 2), patch(9, 9, 1), patch(2, 2, 3)]
    )
    assert first.box == Box(1, 1, 4, 4)
    np.testing.assert_array_equal(first.light[0], [[2, 2, 0], [2, 5, 3], [0, 3, 3]])
    assert first.lit.tolist() == [[True, True, False], [True, True, True], [False, True, True]]
    assert second.box == Box(9, 9, 11, 11)
