import numpy as np
import pytest

from raydeblend.measure.blendedness import blendedness


def test_alone_is_zero_and_equal_twins_are_half():
    light = np.random.default_rng(0).random((1, 2, 5, 5))
    assert blendedness(light) == pytest.approx([0])
    assert blendedness(np.concatenate([light, light])) == pytest.approx([0.5, 0.5])


def test_two_gaussians_against_the_integral():
    # ∫ G_a G_b of unit Gaussians of equal σ at distance d is exp(−d²/4σ²) / (4πσ²).
    sigma, distance, ratio = 2.0, 3.0, 4.0
    y, x = np.indices((61, 61)) - 30.0
    one = np.exp(-((x + distance / 2) ** 2 + y**2) / (2 * sigma**2))
    two = np.exp(-((x - distance / 2) ** 2 + y**2) / (2 * sigma**2)) / ratio
    overlap = np.exp(-(distance**2) / (4 * sigma**2))
    expected = [1 - 1 / (1 + overlap / ratio), 1 - 1 / (1 + overlap * ratio)]
    np.testing.assert_allclose(blendedness(np.stack([one, two])[:, None]), expected, rtol=1e-6)


def test_no_light_is_nan_and_spoils_no_other():
    light = np.zeros((2, 1, 4, 4))
    light[0, 0, 1, 1] = 3
    value = blendedness(light)
    assert value[0] == 0
    assert np.isnan(value[1])


def test_no_sources():
    assert blendedness(np.zeros((0, 3, 8, 8))).shape == (0,)
