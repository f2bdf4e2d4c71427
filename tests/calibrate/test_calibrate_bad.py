"""The calibration of p_bad on rows that are bad with known probabilities."""

import numpy as np
import pyarrow as pa
import pytest

from raydeblend import catalog
from raydeblend.calibrate.bad import BadExamples, examples_of, fit_and_report, held_out, train_bad
from raydeblend.errors import ConfigError
from raydeblend.flags import Flag
from raydeblend.pipeline.bad import FEATURES, read_bad

BANDS = ("g", "r", "i")


def tile(seed, n=800):
    """Rows that are bad with odds e^(z - 2), and those asked about with e^(2 d) times these."""
    rng = np.random.default_rng(seed)
    paired = seed % 2 == 0
    x = rng.normal(size=(n, len(FEATURES)))
    asked = np.arange(n) < n // 2
    d = np.where(asked, rng.exponential(1.0, n), np.nan)
    logit = x[:, 0] - 2 + np.where(asked, 2 * np.log1p(np.nan_to_num(d)) - 1, 0) + 0.7 * paired
    return BadExamples(x, d, rng.uniform(size=n) < 1 / (1 + np.exp(-logit)), paired)


def test_held_out_probabilities_come_true():
    examples = [tile(seed) for seed in range(6)]
    alone, second = held_out(examples)
    truth = np.concatenate([each.bad for each in examples])
    asked = np.concatenate([each.asked for each in examples])
    # Poisson: some 1,000 bad rows, to 10 %.
    assert alone.sum() == pytest.approx(truth.sum(), rel=0.1)
    assert second.sum() == pytest.approx(truth[asked].sum(), rel=0.1)
    for p, came_true in ((alone, truth), (second, truth[asked])):
        high = p > np.median(p)
        assert p[high].mean() == pytest.approx(came_true[high].mean(), abs=0.04)


def test_a_second_opinion_helps_and_the_card_says_by_how_much(tmp_path):
    trained = fit_and_report(str(tmp_path), [tile(seed) for seed in range(4)], {"tiles": 4})
    scores = trained.model.card["scores"]
    without, with_it = (
        scores[f"blends, {name}: all tiles, held out"]["auc"]
        for name in ("without a second opinion", "with that of rdn")
    )
    assert 0.55 < without < with_it - 0.02
    assert read_bad(trained.weights).card["training"]["sources"] == 3200
    assert "blends, with that of rdn: sky" in (tmp_path / "report.md").read_text()


def test_bad_is_far_off_in_errors_and_in_itself():
    """True fluxes of 1000 nJy in i: off by 8, 30 and 30 % with errors of 1, 10 and 5 %."""
    names = catalog.schema(BANDS)
    n = 4
    values = {f.name: np.full(n, "" if pa.types.is_string(f.type) else 1) for f in names}
    values |= {"source_id": np.arange(n), "is_primary": np.ones(n, dtype=bool)}
    values |= {"ra": 150 + np.arange(n) / 100, "dec": np.full(n, 2.0)}
    values |= {"flux_i": np.array([1080.0, 1300, 1300, np.nan])}
    values |= {"flux_err_i": np.array([10.0, 100, 50, 10]), "deblender": np.full(n, "joint")}
    values |= {"flags": np.full(n, int(Flag.MASKED)), "disagreement": np.full(n, np.nan)}
    truth = {"ra": values["ra"], "dec": values["dec"], "is_star": np.zeros(n, dtype=bool)}
    truth |= {f"flux_{band}": np.full(n, 1000.0) for band in BANDS}
    found = examples_of(catalog.to_table(values, BANDS), pa.table(truth), False)
    assert found.bad.tolist() == [False, False, True]
    assert not found.asked.any()
    assert (found.features[:, FEATURES.index("spoiled")] == 1).all()


def test_an_unknown_preset_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="valid: tiny, small, paper"):
        train_bad(str(tmp_path), "huge")
