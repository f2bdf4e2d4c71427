"""Intervals against analytic standard errors."""

import numpy as np
import pytest
from scipy.stats import beta

from raydeblend.evaluate.common.bootstrap import fraction_interval, interval, with_interval


@pytest.mark.parametrize(
    ("statistic", "standard_error"),
    # Of a normal sample of unit variance: the mean, the median, the standard deviation.
    [(np.mean, 1.0), (np.median, np.sqrt(np.pi / 2)), (np.std, np.sqrt(0.5))],
)
def test_width_is_that_of_the_standard_error(statistic, standard_error):
    n = 400
    widths = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        low, high = interval(rng.normal(size=n), statistic, rng)
        widths.append(high - low)
    expected = 2 * 1.96 * standard_error / np.sqrt(n)
    assert np.mean(widths) == pytest.approx(expected, rel=0.06)


def test_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    limits = np.array([interval(rng.exponential(size=60), np.mean, rng, 0.8) for _ in range(400)])
    inside = np.mean((limits[:, 0] < 1) & (limits[:, 1] > 1))
    # A binomial standard error of 0.02, and the bootstrap is a little narrow for few values.
    assert 0.72 < inside < 0.84


def test_rows_are_resampled_whole():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(200, 1)) + np.zeros((1, 5))
    together = interval(values, lambda v, axis: v.mean((1, 2)), rng)
    # Five copies of the same number in a row are no more information than one.
    assert together[1] - together[0] == pytest.approx(
        2 * 1.96 * values.std() / np.sqrt(200), rel=0.1
    )


def test_chunks_have_the_same_distribution(monkeypatch):
    values = np.random.default_rng(2).normal(size=300)
    whole = interval(values, np.mean, np.random.default_rng(3))
    monkeypatch.setattr("raydeblend.evaluate.common.bootstrap._CHUNK", 7 * 300)
    np.testing.assert_allclose(interval(values, np.mean, np.random.default_rng(3)), whole)


def test_what_does_not_exist_is_left_out():
    rng = np.random.default_rng(4)
    assert np.isnan(interval(np.array([1.0]), np.mean, rng)).all()
    assert np.isnan(interval(np.full(9, np.nan), np.mean, rng)).all()
    # Of the resamples of one hit in four, a third have none, and then the statistic is NaN.
    values = np.array([np.nan, np.nan, np.nan, 3.0])
    assert interval(values, _mean_of_found, rng) == (3, 3)


def _mean_of_found(values, axis):
    count = np.isfinite(values).sum(axis)
    total = np.nan_to_num(values).sum(axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def test_a_fraction_agrees_with_the_exact_interval():
    for hits, n in ((140, 200), (1, 200), (60, 80)):
        found = np.arange(n) < hits
        exact = beta.ppf([0.025, 0.975], [hits, hits + 1], [n - hits + 1, n - hits])
        # Clopper and Pearson's interval is the wider one.
        low, high = fraction_interval(found)
        assert exact[0] <= low + 1e-3
        assert high <= exact[1] + 1e-3
        np.testing.assert_allclose((low, high), exact, atol=0.012)


def test_a_fraction_of_one_has_a_width():
    low, high = fraction_interval(np.ones(200, dtype=bool))
    assert high == 1
    assert low == pytest.approx(1 / (1 + 1.96**2 / 200), rel=1e-3)
    assert np.isnan(fraction_interval(np.zeros(0, dtype=bool))).all()


def test_numbers_are_printed_with_the_larger_half():
    assert with_interval(55.92, (55.0, 56.2), ".2f") == "55.92 ±0.92"
    assert with_interval(-0.01, (-0.02, 0.01), "+.3f") == "-0.010 ±0.020"
    assert with_interval(0.5, (float("nan"),) * 2, ".1f") == "0.5"
    assert with_interval(float("nan"), (0, 1), ".1f") == "–"
