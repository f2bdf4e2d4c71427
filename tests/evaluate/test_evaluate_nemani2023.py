"""The protocol of Nemani et al. 2023, with deblenders whose answer is known."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.blends import Blends, BlendSet
from raydeblend.evaluate.common.rows import measured
from raydeblend.evaluate.common.tables import to_markdown
from raydeblend.evaluate.nemani2023 import (
    centered,
    draw_sets,
    evaluate_nemani2023,
    found_std,
    load_deblenders,
    residual_figure,
    residual_table,
    running,
    to_magnitude,
)
from raydeblend.networks import weights
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.vae import Vae, VaeConfig
from raydeblend.networks.weights import Card, save_weights
from raydeblend.tile import Deblended


class _Biased:
    """Returns the true galaxies times 1 + error, those of the first stamp not at all."""

    name = "biased"

    def __init__(self, sets: dict[str, BlendSet], errors: np.ndarray) -> None:
        self._blends = [blends for data in sets.values() for blends in data.blends]
        self._errors = errors

    def __call__(self, images: ArrayLike, **_: object) -> Deblended:
        array = np.asarray(images)
        blends = next(b for b in self._blends if np.array_equal(b.images, array))
        factor = (1 + self._errors)[:, None, None, None, None].astype(np.float32)
        # Fainter galaxies first, so that only their places tell which is which.
        models, xy = (blends.isolated * factor)[:, ::-1], blends.xy[:, ::-1]
        count = np.full(len(array), blends.n_galaxies)
        count[0] = 0
        sigma = 0.1 * models.sum(axis=(3, 4))
        quality = np.array(["high"] * len(array))
        return Deblended(models, count, xy, quality, {"flux_err_model": sigma})


@pytest.fixture(scope="module")
def sets() -> dict[str, BlendSet]:
    return draw_sets(12, seed=3)


def test_known_errors_come_out_as_they_went_in(sets: dict[str, BlendSet]) -> None:
    errors = np.random.default_rng(0).normal(0.02, 0.1, 12)
    rows, results = evaluate_nemani2023({"biased": _Biased(sets, errors)}, sets)
    assert [(row["stamps"], row["n_galaxies"]) for row in rows] == [
        ("analytic", 1),
        ("analytic", 2),
    ]
    for row, result in zip(rows, results, strict=True):
        assert np.isnan(result.error[0])
        np.testing.assert_allclose(result.error[1:], errors[1:], atol=1e-4)
        assert row["flux_std"] == pytest.approx(np.std(errors[1:]), abs=1e-4)
        assert row["flux_bias"] == pytest.approx(np.median(errors[1:]), abs=1e-4)
        assert row["found"] == pytest.approx(11 / 12)
        pull = np.abs(errors[1:]) / (0.1 * (1 + errors[1:]))
        assert row["flux_pull"] == pytest.approx(1.4826 * np.median(pull), rel=1e-3)


def test_blends_with_a_fainter_neighbor_are_counted_apart(sets: dict[str, BlendSet]) -> None:
    errors = np.random.default_rng(1).normal(0, 0.1, 12)
    rows, _ = evaluate_nemani2023({"biased": _Biased(sets, errors)}, sets)
    flux = sets["analytic"].blends[1].isolated.sum(axis=(2, 3, 4))
    brighter = flux[1:, 0] > flux[1:, 1]
    assert 0 < brighter.sum() < 11
    assert rows[1]["flux_std_brighter"] == pytest.approx(np.std(errors[1:][brighter]), abs=1e-4)
    assert rows[0]["flux_std_brighter"] == rows[0]["flux_std"]


def test_the_middle_galaxy_counts_and_not_the_brighter() -> None:
    isolated = np.zeros((1, 2, 1, 9, 9), dtype=np.float32)
    xy = np.array([[[1.0, 1.0], [4.0, 4.2]]], dtype=np.float32)
    assert centered(Blends(isolated.sum(axis=1), isolated, xy)).tolist() == [1]


def test_magnitudes_are_those_of_vis() -> None:
    # surveycodex: 3.4349 nJy of sky noise per pixel, so that flux 1 is 31.4 - 2.5 log10 of it.
    assert float(to_magnitude(np.array([1.0]))[0]) == pytest.approx(30.0602, abs=1e-3)


def test_the_spread_is_over_the_found_and_its_interval_covers_the_truth() -> None:
    rng = np.random.default_rng(1)
    error = rng.normal(0.3, 0.1, (4, 80))
    error[:, ::5] = np.nan
    np.testing.assert_allclose(found_std(error, axis=1), np.nanstd(error, axis=1))
    assert np.isnan(found_std(np.full(3, np.nan), axis=0))
    hits = 0
    for _ in range(40):
        row = measured("std", rng.normal(0, 0.1, 80), found_std)
        hits += float(row["std_low"]) <= 0.1 <= float(row["std_high"])
    assert hits >= 32


def test_the_running_mean_is_over_equally_many_points() -> None:
    x = np.arange(80.0)
    places, values = running(x[::-1], 2 * x[::-1], np.mean)
    np.testing.assert_allclose(places, np.arange(8) * 10 + 4.5)
    np.testing.assert_allclose(values, 2 * np.array(places))


def test_the_table_and_the_figure_show_every_case(sets: dict[str, BlendSet]) -> None:
    rows, results = evaluate_nemani2023({"biased": _Biased(sets, np.full(12, 0.05))}, sets)
    table = to_markdown([residual_table(rows)])
    assert table.count("Nemani et al. 2023") == 2
    assert "9.0%" in table
    assert "9.9%" in table
    assert "+5.0%" in table
    assert table.count("-12.0%") == 2
    assert residual_figure(results, "analytic").startswith(b"\x89PNG")


def _ship(folder: Path, name: str) -> None:
    config = VaeConfig(bands=1, stamp=32, filters=(8, 8), latent=4, hidden=16)
    card = Card("vae-deblend", vars(config), ("VIS",), (0.1, 0.1), Scaling("asinh"))
    save_weights(str(folder), name, Vae(config), card)


def test_the_vae_uses_the_shipped_weights_of_both_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sets: dict[str, BlendSet]
) -> None:
    monkeypatch.setattr(weights, "SHIPPED", tmp_path)
    with pytest.raises(ConfigError, match="the weights vae-deblend-euclid"):
        load_deblenders(["vae", "sep"])
    _ship(tmp_path, "vae-deblend-euclid")
    assert list(load_deblenders(["vae", "sep", "vae"])) == ["vae", "vae-centered", "sep"]
    _ship(tmp_path, "vae-euclid")
    rows, results = evaluate_nemani2023(load_deblenders(["vae"]), sets)
    assert [(row["deblender"], row["n_galaxies"]) for row in rows] == [
        ("vae", 1),
        ("vae-centered", 1),
        ("vae-isolated", 1),
        ("vae", 2),
        ("vae-centered", 2),
    ]
    assert residual_figure(results, "analytic").startswith(b"\x89PNG")
