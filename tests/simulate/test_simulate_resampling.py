"""Noise of resampled exposures."""

import numpy as np
import pytest

from raydeblend.simulate.rendering import observe
from raydeblend.simulate.resampling import lanczos_weights, resample
from raydeblend.survey import get_survey


def test_pixels_have_the_variance_that_is_said_and_sums_have_all_of_it():
    white = np.random.default_rng(0).normal(0, 2, (512, 512))
    noise, variance = resample(white, np.full(white.shape, 4.0))
    part = (lanczos_weights() ** 2).sum() ** 2
    assert variance == pytest.approx(np.full(white.shape, 4 * part))
    assert noise.std() == pytest.approx(2 * np.sqrt(part), rel=0.01)
    sums = noise.reshape(16, 32, 16, 32).sum((1, 3))
    assert sums.std() == pytest.approx(2 * 32, rel=0.15)


def test_lanczos_half_way_between_pixels():
    """The interpolation of a straight line, by the definition sinc(x) sinc(x / 3)."""
    line = np.arange(20.0)
    assert np.convolve(line, lanczos_weights(), "valid") == pytest.approx(line[:15] + 2.5)
    assert lanczos_weights()[2] == pytest.approx(0.6079 / 0.9943, rel=1e-3)


def test_sources_are_as_without_it():
    band = get_survey("HSC").band("i")
    image = np.zeros((200, 200))
    image[100, 100] = 1e4
    plain, correlated = (
        observe(image, band, 1e9, np.random.default_rng(2), correlated=c) for c in (False, True)
    )
    assert correlated.image[90:110, 90:110].sum() == pytest.approx(1e4, rel=0.1)
    assert np.median(correlated.variance) / np.median(plain.variance) == pytest.approx(0.61, 0.02)
    assert correlated.image[:80].std() < 0.85 * plain.image[:80].std()
