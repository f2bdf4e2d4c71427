"""The line and its errors against scipy, and the band against many repetitions."""

import numpy as np
import pytest
from scipy.stats import linregress, t

from raydeblend.evaluate.common.regression import fit_line, fit_log_flux


def points(n=60, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(1, 4, n)
    return x, 0.3 + 1.1 * x + rng.normal(0, 0.2, n)


def test_line_and_slope_error_are_those_of_scipy():
    x, y = points()
    line, other = fit_line(x, y), linregress(x, y)
    assert line.slope == pytest.approx(other.slope)
    assert line(np.array(0.0)) == pytest.approx(other.intercept)
    quantile = t.ppf(0.975, 58)
    assert line.half_slope() == pytest.approx(quantile * other.stderr)
    # At x = 0 the band is the error of the intercept.
    assert line.half_band(np.array(0.0)) == pytest.approx(quantile * other.intercept_stderr)


def test_the_band_holds_the_true_line_in_95_percent():
    x = np.array([1.0, 3.9])
    inside = []
    for seed in range(400):
        line = fit_line(*points(30, seed))
        inside.append(np.abs(line(x) - (0.3 + 1.1 * x)) < line.half_band(x))
    # The binomial standard error is 1.1 %.
    np.testing.assert_allclose(np.mean(inside, axis=0), 0.95, atol=0.035)


def test_what_is_missing_is_left_out():
    x, y = points(10)
    with_gap = np.append(y, np.nan)
    assert fit_line(np.append(x, 2.0), with_gap) == fit_line(x, y)
    assert fit_line(x[:2], y[:2]) is None
    assert fit_line(np.ones(5), y[:5]) is None


def test_logarithms_of_fluxes_in_proportion_have_slope_one():
    true = np.array([10.0, 100, 1000, 5000, 30, 70])
    flux = np.array([9.0, 90, 900, 4500, np.nan, -3])
    line = fit_log_flux(flux, true)
    assert (line.slope, line.n) == (pytest.approx(1), 4)
    assert line.middle - line.pivot == pytest.approx(np.log10(0.9))
    assert line.scatter == pytest.approx(0, abs=1e-9)
