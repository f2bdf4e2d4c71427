"""The calibration's fit on drawn features, and the tiny preset from tiles to a model."""

import numpy as np
import pytest

from raydeblend.calibrate.logistic_fit import fit_logistic
from raydeblend.calibrate.suspects import (
    Examples,
    fit_and_report,
    fit_model,
    predict,
    train_suspects,
)
from raydeblend.deblend.logistic import probability
from raydeblend.deblend.unrecognized.model import read_model
from raydeblend.deblend.unrecognized.networks import NETWORK_FEATURES
from raydeblend.deblend.unrecognized.statistics import FEATURES
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.calibration import calibration

N_CHEAP, N_NETWORK = len(FEATURES), len(NETWORK_FEATURES)


def examples(n, paired, seed):
    """Blends where the fifth statistic is high, ln odds −4 on the sky and −1 among pairs."""
    rng = np.random.default_rng(seed)
    cheap = rng.normal(0, 1, (n, N_CHEAP))
    logit = 2.0 * cheap[:, 4] - (1.0 if paired else 4.0)
    blended = rng.random(n) < 1 / (1 + np.exp(-logit))
    of_networks = rng.normal(0, 1, (n, N_NETWORK)) + 2 * blended[:, None]
    return Examples(cheap, of_networks, blended, paired)


def test_the_fit_finds_what_the_sample_was_drawn_from():
    sample = [examples(4000, paired, seed) for seed, paired in enumerate([True, False] * 2)]
    x = np.concatenate([each.statistics for each in sample])
    truth = np.concatenate([each.blended for each in sample])
    paired = np.concatenate([np.full(len(each.statistics), each.paired) for each in sample])
    logistic, offset = fit_logistic(x, truth, paired)
    assert offset == pytest.approx(3.0, abs=0.25)
    point = np.zeros((2, N_CHEAP))
    point[1, 4] = 1.0
    np.testing.assert_allclose(logistic.logit(point), [-4, -2], atol=0.3)
    p = probability(logistic.logit(x) + offset * paired)
    for kind in (paired, ~paired):
        assert p[kind].sum() == pytest.approx(truth[kind].sum(), rel=0.01)


def test_the_networks_help_where_there_is_doubt():
    sample = [examples(3000, paired, seed) for seed, paired in enumerate([True, False] * 2)]
    model = fit_model(sample)
    fresh = examples(5000, False, 99)
    both = calibration(predict(model, fresh), fresh.blended)
    cheap = calibration(probability(model.cheap.logit(fresh.statistics)), fresh.blended)
    assert both.auc > cheap.auc + 0.01
    assert both.ece < 0.02
    without = Examples(
        fresh.statistics, np.full_like(fresh.network_features, np.nan), fresh.blended, False
    )
    np.testing.assert_allclose(
        predict(model, without), probability(model.cheap.logit(fresh.statistics))
    )


def test_the_report_scores_tiles_that_the_fit_has_not_seen(tmp_path):
    sample = [examples(800, paired, seed) for seed, paired in enumerate([True, False] * 3)]
    trained = fit_and_report(str(tmp_path), sample, {"seed": 0})
    assert trained.model.card["scores"]["sky, held-out tiles"]["auc"] > 0.8
    assert trained.model.card["training"]["sources"] == 4800
    assert (tmp_path / "suspect.png").read_bytes()[:4] == b"\x89PNG"
    assert "purity" in (tmp_path / "report.md").read_text()
    read = read_model(trained.weights)
    np.testing.assert_allclose(read.cheap.weights, trained.model.cheap.weights, atol=1e-6)


def test_from_tiles_to_a_model_and_again_from_what_is_kept(tmp_path):
    first = train_suspects(str(tmp_path), "tiny", seed=3)
    kept = sorted((tmp_path / "examples").glob("*.npz"))
    assert len(kept) == 4
    changed = [path.stat().st_mtime_ns for path in kept]
    second = train_suspects(str(tmp_path), "tiny", seed=3)
    assert [path.stat().st_mtime_ns for path in kept] == changed
    np.testing.assert_array_equal(first.model.cheap.weights, second.model.cheap.weights)
    with np.load(kept[0]) as arrays:
        assert arrays["seen"].shape[1] == N_CHEAP
        assert arrays["said"].shape[1] == N_NETWORK
        assert len(arrays["blended"]) > 5


def test_an_unknown_preset_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="preset"):
        train_suspects(str(tmp_path), "huge")
