"""p_bad: its features, its domain and its file."""

import numpy as np
import pytest

from raydeblend.deblend.logistic import Logistic
from raydeblend.errors import ConfigError
from raydeblend.flags import Flag
from raydeblend.pipeline.bad import FEATURES, BadModel, features, read_bad, shipped_bad, write_bad

BANDS = ("g", "i")


def rows(n=3, **given):
    values = {
        "deblender": np.full(n, "joint"),
        "snr": np.full(n, 20.0),
        "chi2": np.ones(n),
        "p_unrecognized_blend": np.full(n, 0.01),
        "blendedness": np.zeros(n),
        "n_blended": np.full(n, 2),
        "r50": np.full(n, 0.3),
        "coverage_g": np.ones(n),
        "coverage_i": np.ones(n),
        "flags": np.zeros(n, dtype=np.int32),
        "disagreement": np.full(n, np.nan),
    }
    return values | {name: np.array(value) for name, value in given.items()}


def model():
    """A model that knows the first feature alone: ln S/N; the second asks disagreement alone."""

    def linear(n, which):
        weights = np.zeros(n + n * (n + 1) // 2)
        weights[which] = 1.0
        return Logistic(np.zeros(n), np.ones(n), weights, -2.0)

    n = len(FEATURES)
    return BadModel("joint", linear(n, 0), linear(n + 1, n), "rdn", {})


def test_features_are_those_of_the_columns():
    seen = features(
        rows(
            chi2=[np.nan, 1.0, 2.0],
            coverage_i=[1.0, 0.4, np.nan],
            flags=[0, int(Flag.MASKED), int(Flag.DEBLEND_LIMITED | Flag.EDGE)],
        ),
        BANDS,
    )
    assert seen.shape == (3, len(FEATURES))
    column = dict(zip(FEATURES, seen.T, strict=True))
    np.testing.assert_allclose(column["log_snr"], np.log(20))
    np.testing.assert_allclose(column["log_chi2"], [0, 0, np.log(2)])
    np.testing.assert_allclose(column["missed_light"], [0, 0.6, 0])
    assert column["spoiled"].tolist() == [0, 1, 1]
    assert column["given_up"].tolist() == [0, 0, 1]


def test_a_second_opinion_counts_only_if_it_is_the_one_that_was_learnt():
    known = rows(snr=[1.0, 1.0, 1.0], disagreement=[np.nan, np.expm1(1.0), np.expm1(3.0)])
    logit = np.log([p / (1 - p) for p in model().p_bad(known, BANDS, "rdn")])
    np.testing.assert_allclose(logit, [-2, -1, 1], atol=1e-9)
    for other in ("sep", None):
        p = model().p_bad(known, BANDS, other)
        np.testing.assert_allclose(np.log(p / (1 - p)), -2, atol=1e-9)


def test_rows_of_other_deblenders_or_without_a_flux_have_none():
    told = rows(deblender=["joint", "sep", "joint"], snr=[20.0, 20.0, np.nan])
    assert np.isfinite(model().p_bad(told, BANDS)).tolist() == [True, False, False]
    assert np.isfinite(shipped_bad().p_bad(told, BANDS)).tolist() == [True, False, False]


def test_a_calibration_comes_back_from_its_file(tmp_path):
    path = str(tmp_path / "bad.json")
    write_bad(path, model())
    again = read_bad(path)
    assert again.sha256
    told = rows(disagreement=[1.0, 2.0, np.nan])
    for opinion in ("rdn", None):
        np.testing.assert_allclose(
            again.p_bad(told, BANDS, opinion), model().p_bad(told, BANDS, opinion), rtol=1e-5
        )
    (tmp_path / "bad.json").write_text('{"deblender": "joint"}')
    with pytest.raises(ConfigError, match="not a calibration of bad fluxes"):
        read_bad(path)
