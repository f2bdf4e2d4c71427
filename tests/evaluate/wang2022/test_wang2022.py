from pathlib import Path

import numpy as np
import pytest

from raydeblend.deblend.sep import SepDeblender
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.blends import read_blends, to_blend_set
from raydeblend.evaluate.common.tables import to_markdown
from raydeblend.evaluate.wang2022.score_tables import quality_table, score_table
from raydeblend.evaluate.wang2022.scores import BATCH, evaluate_wang2022
from raydeblend.tile import Deblended

VALID = Path(__file__).parents[4] / "shared/data/protocols/wang2022_valid.npz"
needs_valid = pytest.mark.skipif(not VALID.exists(), reason="needs ../shared/data")

COLUMNS = [
    *("protocol", "deblender", "n_galaxies", "galaxy", "n"),
    *("psnr_mean", "psnr_median", "ssim_mean", "ssim_median"),
    *("flux_bias", "flux_nmad", "flux_mape", "found", "seconds_per_blend"),
]


def arrays(n=5, k=2, size=32):
    """Noisy blends of k Gaussians in the fixed layout, as float16."""
    rng = np.random.default_rng(3)
    yy, xx = np.mgrid[:size, :size]
    xy = rng.uniform(6, 10, (n, k, 2)) + np.array([[0, 0], [14, 8], [0, 15]])[:k]
    shape = np.exp(-((xx - xy[..., 0, None, None]) ** 2 + (yy - xy[..., 1, None, None]) ** 2) / 8)
    flux = np.array([100, 60, 30])[:k, None, None, None] * np.ones((1, 3, 1, 1))
    isolated = flux * shape[:, :, None]
    blend = isolated.sum(axis=1) + rng.normal(size=(n, 3, size, size))
    return {
        f"blend{k}": blend.astype(np.float16),
        f"isolated{k}": isolated.astype(np.float16),
        f"xy{k}": xy.astype(np.float32),
        "psf": np.ones((3, 5, 5), dtype=np.float32) / 25,
        "bands": np.array(["g", "r", "i"]),
        "pixel_scale": np.array(0.2),
    }


class FromTruth:
    """Returns the true images times `factor`, faintest first, without the `missing` brightest."""

    name = "truth"

    def __init__(self, data, factor=1.0, missing=0):
        self.blends, self.factor, self.missing, self.done = data.blends[0], factor, missing, 0

    def __call__(self, images, **context):
        part = self.blends[self.done : self.done + len(images)]
        self.done += len(images)
        kept = slice(None, self.missing - 1 if self.missing else None, -1)
        n_sources = np.full(len(images), part.n_galaxies - self.missing)
        return Deblended(
            self.factor * part.isolated[:, kept],
            n_sources,
            part.xy[:, kept],
            np.full(len(images), "high"),
        )


def test_truth_is_matched_by_position_and_scores_perfectly():
    data = to_blend_set(arrays())
    rows, _ = evaluate_wang2022({"truth": FromTruth(data)}, data)
    assert [list(row)[: len(COLUMNS)] for row in rows] == [COLUMNS, COLUMNS]
    for row in rows:
        assert (row["psnr_mean"], row["ssim_mean"], row["found"]) == (np.inf, pytest.approx(1), 1)
        assert row["flux_mape"] == 0


def test_a_scaled_model_has_the_psnr_and_bias_computed_by_hand():
    data = to_blend_set(arrays())
    rows, _ = evaluate_wang2022({"truth": FromTruth(data, factor=0.9)}, data)
    blends = data.blends[0]
    peaks = blends.images.max(axis=(1, 2, 3))
    for galaxy, row in enumerate(rows):
        mean_square = (0.1 * blends.isolated[:, galaxy]) ** 2
        expected = -10 * np.log10(mean_square.mean(axis=(1, 2, 3)) / peaks**2)
        assert row["psnr_mean"] == pytest.approx(expected.mean(), abs=1e-3)
        assert row["psnr_median"] == pytest.approx(np.median(expected), abs=1e-3)
        assert row["flux_bias"] == pytest.approx(-0.1, abs=1e-5)
        assert row["flux_mape"] == pytest.approx(0.1, abs=1e-5)


def test_a_missing_galaxy_counts_as_zeros():
    data = to_blend_set(arrays())
    rows, scores = evaluate_wang2022({"truth": FromTruth(data, missing=1)}, data)
    assert [row["found"] for row in rows] == [0, 1]
    assert [row["flux_mape"] for row in rows] == [1, 0]
    assert np.isnan(rows[0]["flux_bias"])
    assert np.isfinite(rows[0]["psnr_mean"])
    assert not scores[0].models[:, 0].any()


def test_batches_make_no_difference():
    data = to_blend_set(arrays(n=BATCH + 3))
    rows, scores = evaluate_wang2022({"sep": SepDeblender()}, data)
    alone, _ = evaluate_wang2022({"sep": SepDeblender()}, to_blend_set(_last(arrays(n=BATCH + 3))))
    assert rows[0]["n"] == BATCH + 3
    assert scores[0].psnr[-1, 0] == pytest.approx(alone[0]["psnr_mean"])


def _last(content):
    return {name: a[-1:] if name[-1] == "2" else a for name, a in content.items()}


def test_n_takes_the_first_and_three_galaxies_are_scored_too():
    data = to_blend_set(arrays() | arrays(n=4, k=3))
    rows, _ = evaluate_wang2022({"sep": SepDeblender()}, data, n=3)
    cases = [(row["n_galaxies"], row["galaxy"], row["n"]) for row in rows]
    assert cases == [(2, 1, 3), (2, 2, 3), (3, 1, 3), (3, 2, 3), (3, 3, 3)]
    assert [rows[0][f"quality_{word}"] for word in ("high", "medium", "low", "none")] == [
        0,
        1,
        0,
        0,
    ]
    table = score_table(rows)
    assert len(table.rows) == 5 + 5 + 5
    text = to_markdown([table, quality_table(rows)])
    for words in ("58.18", "77.3%", "scarlet, true positions (DESIGN)"):
        assert words in text


def test_numbers_have_limits_around_them():
    data = to_blend_set(arrays(n=40))
    rows, _ = evaluate_wang2022({"sep": SepDeblender()}, data)
    for name in ("psnr_mean", "psnr_median", "ssim_mean", "flux_bias", "flux_mape", "found"):
        assert rows[0][f"{name}_low"] <= rows[0][name] <= rows[0][f"{name}_high"]
    # As the standard error of the mean says.
    _, (scores,) = evaluate_wang2022({"sep": SepDeblender()}, data)
    width = rows[0]["psnr_mean_high"] - rows[0]["psnr_mean_low"]
    expected = 2 * 1.96 * scores.psnr[:, 0].std() / np.sqrt(40)
    assert width == pytest.approx(expected, rel=0.12)
    assert score_table(rows).rows[0][3].startswith(f"{rows[0]['psnr_mean']:.2f} ±")
    assert (rows[0]["quality_medium"], rows[0]["quality_medium_high"]) == (1, 1)
    assert rows[0]["quality_medium_low"] < 1


def test_a_blend_is_right_when_the_count_is_and_all_are_found():
    data = to_blend_set(arrays(n=6))
    _, (good,) = evaluate_wang2022({"truth": FromTruth(data)}, data)
    _, (bad,) = evaluate_wang2022({"truth": FromTruth(data, missing=1)}, data)
    assert good.right.all()
    assert not bad.right.any()
    assert not good.merged.any()
    np.testing.assert_allclose(good.amplitude, np.eye(2) * np.ones((6, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(good.moments, good.moments_true, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"blend2": None}, "neither"),
        ({"isolated2": None}, "'isolated2' is missing"),
        ({"xy2": np.zeros((5, 3, 2))}, "shapes"),
        ({"blend2": np.zeros((5, 32, 32))}, "must have shape"),
        ({"bands": np.array(["g"])}, "1 bands"),
    ],
)
def test_another_layout_is_refused(change, sentence):
    content = {name: a for name, a in (arrays() | change).items() if a is not None}
    with pytest.raises(ConfigError, match=sentence):
        to_blend_set(content)


@needs_valid
def test_sep_reaches_the_anchors():
    # Anchors measured independently on the same file: PSNR 39.3 / 38.9, SSIM 0.965, bias -0.044,
    # NMAD 0.068, mape 0.134 for the brighter galaxy; 42.0 / 40.7, 0.975, -0.103, 0.077, 0.382.
    rows, _ = evaluate_wang2022({"sep": SepDeblender()}, read_blends(str(VALID)))
    keys = ("psnr_mean", "psnr_median", "ssim_mean", "flux_bias", "flux_nmad", "flux_mape")
    measured = [[row[key] for key in keys] for row in rows[:2]]
    anchors = [[39.3, 38.9, 0.965, -0.044, 0.068, 0.134], [42.0, 40.7, 0.975, -0.103, 0.077, 0.382]]
    tolerance = [0.15, 0.15, 0.001, 0.005, 0.01, 0.015]
    assert (np.abs(np.subtract(measured, anchors)) <= tolerance).all()
    assert rows[0]["found"] + rows[1]["found"] == pytest.approx(1.0 + 0.715, abs=0.005)
    psnr3 = [row["psnr_mean"] for row in rows[2:]]
    np.testing.assert_allclose(psnr3, [37.7, 39.5, 41.4], atol=0.5)
