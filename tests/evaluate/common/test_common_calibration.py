import io

import matplotlib.image
import numpy as np
import pytest

from raydeblend.evaluate.common.calibration import (
    calibration,
    calibration_figure,
    calibration_table,
    purity_rows,
    purity_table,
    roc,
)


def drawn(n=20_000, sharpness=1.0, seed=0):
    """Probabilities, and truths drawn by them; sharpened, they claim too much."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1, 2, n)
    truth = rng.random(n) < 1 / (1 + np.exp(-logit))
    return 1 / (1 + np.exp(-sharpness * logit)), truth


def test_what_is_drawn_by_its_probability_is_calibrated():
    p, truth = drawn()
    score = calibration(p, truth)
    assert score.ece < 0.01
    assert score.n == 20_000
    assert score.positives == truth.sum()
    pull = (score.bins[:, 4] - score.bins[:, 3]) / score.bins[:, 5]
    assert np.abs(pull).max() < 4


def test_overconfidence_shows():
    assert calibration(*drawn(sharpness=3.0)).ece > 0.05


def test_the_area_is_the_part_of_pairs_in_order():
    p, truth = drawn(400)
    p = p.round(1)
    pairs = p[truth][:, None] - p[~truth][None]
    expected = np.mean(pairs > 0) + 0.5 * np.mean(pairs == 0)
    assert calibration(p, truth).auc == pytest.approx(expected)


def test_calibration_error_of_two_bins_by_hand():
    p = np.array([0.2, 0.2, 0.2, 0.2, 0.9, 0.9])
    truth = np.array([True, False, False, False, True, False])
    score = calibration(p, truth, edges=(0, 0.5, 1))
    assert score.ece == pytest.approx((4 * 0.05 + 2 * 0.4) / 6)
    assert score.brier == pytest.approx(np.mean((p - truth) ** 2))


def test_probabilities_that_are_missing_are_left_out():
    score = calibration(np.array([0.1, np.nan, 0.9]), np.array([False, True, True]))
    assert (score.n, score.positives, score.auc) == (2, 1, 1.0)


def test_one_kind_alone_has_no_curve():
    p, truth = np.array([0.1, 0.2]), np.array([False, False])
    assert np.isnan(calibration(p, truth).auc)
    assert [len(rates) for rates in roc(p, truth)] == [0, 0]
    assert calibration_figure({"one": (p, truth)}, "title").startswith(b"\x89PNG")


def test_roc_ends_in_the_corners():
    false, true = roc(*drawn(100))
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert np.all(np.diff(false) >= 0)
    assert np.all(np.diff(true) >= 0)


def test_purity_by_hand():
    rows = purity_rows(np.array([0.2, 0.6, 0.8]), np.array([True, False, True]), (0.5, 0.95))
    assert rows[0] == {"threshold": 0.5, "above": 2, "purity": 0.5, "completeness": 0.5}
    assert np.isnan(rows[1]["purity"])
    assert purity_table(rows).rows[1][2] == "–"


def test_table_and_figure():
    p, truth = drawn(500)
    assert "expected calibration error" in calibration_table(calibration(p, truth)).after[0]
    picture = matplotlib.image.imread(io.BytesIO(calibration_figure({"sky": (p, truth)}, "title")))
    assert picture.shape[0] > 400
    assert picture.std() > 0.05
