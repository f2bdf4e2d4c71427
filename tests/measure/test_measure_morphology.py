"""Morphology of profiles whose numbers are known."""

import numpy as np
import pytest

from raydeblend.measure.morphology import gini, m20, measure_morphology


def gaussian(sigma: float, ratio: float = 1.0, flux: float = 1e6, size: int = 129) -> np.ndarray:
    y, x = np.indices((size, size)) - (size - 1) / 2
    profile = np.exp(-0.5 * ((x / sigma) ** 2 + (y / (ratio * sigma)) ** 2))
    return flux * profile / profile.sum()


def test_a_gaussian_has_its_analytic_numbers() -> None:
    measured = measure_morphology(gaussian(7.0))
    assert measured is not None
    # Within r the part 1 - exp(-r^2 / 2 s^2) of the light.
    assert measured.half_light == pytest.approx(7 * np.sqrt(2 * np.log(2)), rel=0.01)
    ratio = np.sqrt(np.log(5) / np.log(1.25))
    assert measured.concentration == pytest.approx(5 * np.log10(ratio), rel=0.01)
    assert measured.flux == pytest.approx(1e6, rel=1e-3)
    assert measured.ellipticity == pytest.approx(0, abs=0.01)


def test_m20_of_a_gaussian() -> None:
    # The brightest fifth lies within u = r^2 / 2 s^2 = -ln 0.8; its part of the second moment
    # is 1 - (1 + u) exp(-u).
    u = -np.log(0.8)
    assert m20(gaussian(9.0)) == pytest.approx(np.log10(1 - (1 + u) * 0.8), abs=0.02)


def test_ellipticity() -> None:
    measured = measure_morphology(gaussian(9.0, ratio=0.5))
    assert measured is not None
    assert measured.ellipticity == pytest.approx(0.5, abs=0.02)


def test_gini_of_even_and_of_single_light() -> None:
    assert gini(np.ones(100)) == pytest.approx(0)
    assert gini(np.eye(1, 100)) == pytest.approx(1)
    # Uniform between 0 and 1: the mean difference is 1/3, half of it over the mean 1/2.
    assert gini(np.linspace(0, 1, 2001)) == pytest.approx(1 / 3, rel=2e-3)


def test_an_empty_image_has_none() -> None:
    assert measure_morphology(np.zeros((64, 64))) is None
