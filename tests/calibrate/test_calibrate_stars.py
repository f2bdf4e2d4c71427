"""The calibration of p_star on sources whose kinds are drawn from known distributions."""

from dataclasses import replace

import numpy as np
import pytest

from raydeblend.calibrate.stars import (
    STARS,
    StarExamples,
    brightest_within,
    fit_and_report,
    fit_model,
    score,
    train_stars,
)
from raydeblend.errors import ConfigError
from raydeblend.pipeline.stars import read_stars

BANDS = ("g", "r", "i")


def tile(seed, n=600):
    """Half stars, of no width, and half galaxies, of 0.15 ± 0.1 PSFs; measured to 0.08."""
    rng = np.random.default_rng(seed)
    is_star = np.arange(n) < n // 2
    magnitude = rng.uniform(20, 24, n)
    flux = 10 ** (0.4 * (31.4 - magnitude))[:, None] * np.ones(3)
    width = np.where(is_star, 0, rng.normal(0.15, 0.1, n))
    error = np.full(n, 0.08)
    return StarExamples(
        flux=flux * rng.lognormal(0, 0.1, flux.shape),
        flux_err=0.02 * flux,
        excess=width + error * rng.normal(size=n),
        excess_err=error,
        lost=np.zeros(n),
        is_star=is_star,
        magnitude=magnitude,
    )


def test_probabilities_are_those_of_as_many_stars_as_the_sky_has():
    """The odds of a width are the ratio of two Gaussians, times those of the kinds."""
    model = fit_model([tile(seed) for seed in range(4)])
    probe = replace(tile(9, 8), excess=np.linspace(-0.15, 0.3, 8), flux=tile(0, 8).flux)
    probe = replace(probe, flux=np.full((8, 3), 10 ** (0.4 * (31.4 - 22.0))))
    probe = replace(probe, flux_err=0.02 * probe.flux)
    p = model.p_star(probe.points, BANDS)
    sigma_star, sigma_galaxy = 0.08, np.hypot(0.08, 0.1)
    star = np.exp(-0.5 * (probe.excess / sigma_star) ** 2) / sigma_star
    galaxy = np.exp(-0.5 * ((probe.excess - 0.15) / sigma_galaxy) ** 2) / sigma_galaxy
    np.testing.assert_allclose(p, star / (star + STARS * galaxy), atol=0.08)


def test_held_out_probabilities_sum_to_the_stars_of_the_sky(tmp_path):
    examples = [tile(seed) for seed in range(4)]
    trained = fit_and_report(str(tmp_path), examples, {"tiles": 4})
    expected = sum(row["expected"] for row in trained.model.card["scores"])
    true = sum(row["true"] for row in trained.model.card["scores"])
    assert true == pytest.approx(4 * 300 / STARS)
    assert expected == pytest.approx(true, rel=0.15)
    assert read_stars(trained.weights).card["training"]["stars"] == 1200
    assert "p_star above 0.5" in (tmp_path / "report.md").read_text()


def test_completeness_and_purity_count_each_star_as_a_tenth():
    p = np.array([0.9, 0.9, 0.1, 0.9, 0.2])
    is_star = np.array([True, True, True, False, False])
    _, rows = score(p, is_star, np.full(5, 20.0))
    (row,) = (row for row in rows if row["stars"])
    assert row["complete"] == pytest.approx(2 / 3, abs=1e-3)
    assert row["pure"] == pytest.approx(0.2 / 1.2, abs=1e-3)
    assert row["true"] == pytest.approx(3 / STARS)


def test_the_brightest_true_source_nearby_is_the_one_found():
    place = np.array([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]])
    found = brightest_within(
        np.array([[0.4, 0.0], [5.0, 5.0]]), place, np.array([1.0, 2.0, 3.0]), 1.0
    )
    assert found.tolist() == [1, -1]


def test_an_unknown_preset_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="unknown preset"):
        train_stars(str(tmp_path), "huge")
