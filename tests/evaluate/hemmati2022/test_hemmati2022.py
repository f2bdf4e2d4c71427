"""The protocol of Hemmati et al.: outcomes, false positives, map, photometry, figures."""

import io
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from raydeblend.deblend.sep import SepDeblender
from raydeblend.deblend.srgan.deblender import SrganDeblender
from raydeblend.deblend.srgan.resolutions import (
    both_found,
    high_peaks,
    low_peaks,
    matched,
    to_coarse,
)
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.request import Request
from raydeblend.evaluate.common.tables import to_markdown
from raydeblend.evaluate.hemmati2022 import scores as hemmati2022
from raydeblend.evaluate.hemmati2022.figures import draw_figures
from raydeblend.evaluate.hemmati2022.photometry import (
    Photometry,
    binned_squares,
    fit_exponential,
    fit_residual,
    measure_dominant,
    photometry_table,
)
from raydeblend.evaluate.hemmati2022.photometry_figure import photometry_figure
from raydeblend.evaluate.hemmati2022.scores import (
    HIGH,
    LOW,
    Outcomes,
    Results,
    by_deblender,
    evaluate_hemmati2022,
    false_positives,
    make_rows,
    score_table,
)
from raydeblend.evaluate.hemmati2022.som import SHAPE, map_blends
from raydeblend.evaluate.protocol import run_evaluation
from raydeblend.instruments import HST_BANDS
from raydeblend.simulate.sharp_blends import SharpTest, draw_blends


def outcomes(counts: dict[str, list[int]], found: dict[str, list[bool]] | None = None) -> Outcomes:
    n = len(counts[LOW])
    rng = np.random.default_rng(0)
    return Outcomes(
        separation=np.linspace(0.1, 1.2, n),
        fwhm=np.full(n, 0.5),
        delta_z=rng.random(n),
        magnitude=np.sort(rng.uniform(21, 25, (n, 2)), axis=1),
        is_real=np.zeros((n, 2), dtype=bool),
        counts={name: np.array(values) for name, values in counts.items()},
        found={
            name: np.array(found[name] if found else [False] * n) for name in counts
        },
        seconds=dict.fromkeys(counts, 0.01),
    )  # fmt: skip


EMPTY = Photometry(np.zeros(0), np.zeros(0), np.zeros(0))


def test_which_second_peaks_are_false() -> None:
    singles = outcomes({LOW: [1, 1, 1, 1], HIGH: [1, 2, 1, 1], "srgan": [2, 2, 1, 1]})
    blends = outcomes({LOW: [1, 1, 2], HIGH: [1, 2, 2], "srgan": [2, 2, 2]})
    results = Results("srgan", blends, singles, EMPTY, [])
    false = false_positives(results, "srgan")
    # The second galaxy has two peaks in HST's image too: it is split, not false.
    assert false["split"].tolist() == [True, True, False, False]
    assert false["false"].tolist() == [True, False, False, False]
    assert false["false_smooth"].tolist() == [True, True, False, False]
    # Only the first blend shows one peak at both resolutions.
    assert false["false_blends"].tolist() == [True]
    assert false["false_all"].mean() == pytest.approx(2 / 5)
    row = next(row for row in make_rows(results) if row["deblender"] == "srgan")
    assert row["false"] == 0.25
    assert row["false_low"] < 0.25 < row["false_high"]


def test_a_peak_belongs_to_one_galaxy() -> None:
    truth = np.array([[10.0, 10.0], [13.0, 10.0]])
    assert matched(np.array([[12.0, 10.0]]), truth).tolist() == [-1, 0]
    assert matched(np.array([[13.5, 10.0], [9.0, 10.0]]), truth).tolist() == [1, 0]
    assert both_found(np.array([[13.5, 10.0], [9.0, 10.0], [40.0, 40.0]]), truth)
    assert not both_found(np.array([[13.5, 10.0], [9.0, 15.0]]), truth)


def test_resolutions_see_what_they_can() -> None:
    """Wide pairs are two in both images; pairs of 0.35" only in HST's; no galaxy is two."""
    y, x = np.indices((66, 66))

    def spot(at: float, width: float) -> np.ndarray:
        return np.exp(-((x - at) ** 2 + (y - 32.5) ** 2) / (2 * width**2)) / width**2

    def pair(distance: float, width: float) -> np.ndarray:
        return spot(32.5 - distance / 2, width) + spot(32.5 + distance / 2, width)

    # 0.12" and 0.6" FWHM in pixels of 0.06".
    sharp, broad = 0.85, 4.25
    for distance, expected in ((0, (1, 1)), (6, (1, 2)), (21, (2, 2))):
        low = 300 * pair(distance, broad).reshape(22, 3, 22, 3).sum(axis=(1, 3))
        seen = len(low_peaks(low)), len(high_peaks(300 * pair(distance, sharp)))
        assert seen == expected, distance


def test_photometry_at_both_positions_recovers_the_dominant_galaxy() -> None:
    blends = draw_blends(30, 2, ("F775W",), np.random.default_rng(3))
    bright = blends.magnitude[:, 1] < 24
    near = (blends.separation > 0.4) & (blends.separation < 1.2) & bright
    names = [item.name for item in fields(blends) if item.name != "bands"]
    chosen = replace(blends, **{name: getattr(blends, name)[near] for name in names})
    middle = [xy.mean(axis=0, keepdims=True) for xy in chosen.xy]
    result = measure_dominant(chosen, middle, list(chosen.xy))
    assert len(result) == near.sum() >= 3
    errors = list(result.errors().values())
    # Both galaxies' light against one's: too bright without, within a tenth of a magnitude with.
    assert np.median(errors[0]) < -0.1
    assert abs(np.median(errors[1])) < 0.15
    table = photometry_table(result, result.rows("hemmati2022", "srgan"))
    assert "times better" in [row[0] for row in table.rows]


def test_blends_that_are_not_recovered_are_not_measured() -> None:
    blends = draw_blends(2, 2, ("F775W",), np.random.default_rng(3))
    one = [xy[:1] for xy in blends.xy]
    assert len(measure_dominant(blends, one, one)) == 0


def test_regressions_find_what_was_put_in() -> None:
    rng = np.random.default_rng(0)
    magnitude = rng.uniform(21, 25, 400)
    error = 0.3 * np.sin(magnitude) + 0.02 * rng.standard_normal(400)
    at = np.linspace(21.5, 24.5, 20)
    mean, sigma = fit_residual(magnitude, error, at)
    assert mean == pytest.approx(0.3 * np.sin(at), abs=0.06)
    assert (sigma > 0).all()
    x = np.linspace(21, 25, 9)
    curve = fit_exponential(x, 0.01 * np.exp(0.9 * (x - 23)) + 0.02)
    assert curve is not None
    assert curve(x) == pytest.approx(0.01 * np.exp(0.9 * (x - 23)) + 0.02, abs=1e-4)
    assert fit_exponential(x[:3], x[:3]) is None
    middle, median, most = binned_squares(magnitude, np.full(400, 0.1))
    assert median == pytest.approx(0.01)
    assert most == pytest.approx(0.01)
    assert (np.diff(middle) > 0).all()


def test_the_map_puts_equal_blends_together() -> None:
    """Parameters averaged in cells follow the parameters; what is found follows the separation."""
    rng = np.random.default_rng(1)
    parameters = {name: rng.random(800) for name in ("separation", "magnitude", "fwhm", "redshift")}
    drawn = map_blends(parameters, {"all": parameters["separation"] > 0.5})
    assert drawn.counts.shape == SHAPE[::-1]
    assert drawn.counts.sum() == 800
    separation, found = drawn.parameters["separation"], drawn.fractions["all"]
    filled = drawn.counts > 0
    assert filled.mean() > 0.4
    assert np.isnan(separation[~filled]).all()
    assert found[separation > 0.75].mean() > 0.9
    assert found[separation < 0.25].mean() < 0.1
    same = map_blends(parameters, {"all": parameters["separation"] > 0.5})
    np.testing.assert_array_equal(same.counts, drawn.counts)


@pytest.fixture(scope="module")
def results() -> Results:
    network = SrganDeblender.load("cpu")
    return evaluate_hemmati2022({"srgan": network}, {"srgan": network}, SharpTest(16, seed=4))


def test_results_hold_every_method(results: Results) -> None:
    assert list(results.blends.counts) == [LOW, HIGH, "srgan", "srgan (fit)"]
    assert len(results.blends) == len(results.singles) == 16
    # HST sees more than HSC, and a single smooth galaxy is one.
    assert results.blends.found[HIGH].sum() > results.blends.found[LOW].sum()
    assert (results.singles.counts[HIGH] <= 1).all()
    assert (results.singles.separation == 0).all()
    rows = make_rows(results)
    assert {"protocol", "deblender", "n_galaxies", "n", "found", "found_low"} <= set(rows[0])
    table = to_markdown([score_table(results, rows)])
    assert "| HSC " in table
    assert "80%" in table
    assert len(results.examples) == hemmati2022.EXAMPLES


def test_figures_are_pictures(results: Results) -> None:
    figures = draw_figures(results)
    assert {"fractions.png", "resolution.png", "peaks.png", "som.png"} <= set(figures)
    rng = np.random.default_rng(0)
    true = rng.uniform(22, 25, 60)
    figures["photometry.png"] = photometry_figure(
        Photometry(true, true - rng.random(60), true + 0.1 * rng.standard_normal(60))
    )
    for png in figures.values():
        assert imread(io.BytesIO(png)).std() > 0.01


def test_the_command_writes_metrics_tables_and_figures(tmp_path: Path) -> None:
    evaluation = run_evaluation(Request("hemmati2022", (), None, 4, str(tmp_path), seed=1))
    rows = json.loads((tmp_path / "metrics.json").read_text())
    assert [row["deblender"] for row in rows][:4] == [LOW, HIGH, "srgan", "srgan (fit)"]
    assert (tmp_path / "tables.md").read_text() == evaluation.tables
    assert (tmp_path / "fractions.png").exists()


def test_seven_bands_are_seen_by_both_networks(tmp_path: Path) -> None:
    evaluation = run_evaluation(
        Request("hemmati2022", ("srgan-multiband",), None, 4, str(tmp_path), bands=7)
    )
    names = [str(row["deblender"]) for row in evaluation.rows if "found" in row]
    multi, single = "srgan-multiband", "srgan"
    assert names == [LOW, HIGH, multi, single, f"{multi} (fit)", f"{single} (fit)"]
    assert (tmp_path / "bands.png").exists()


def test_other_numbers_of_bands_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 or 7"):
        run_evaluation(Request("hemmati2022", (), None, 4, str(tmp_path / "out"), bands=3))
    assert not (tmp_path / "out").exists()


def test_others_than_the_network_are_told_the_bands_of_the_ground() -> None:
    given = []

    @dataclass
    class Recorder(SepDeblender):
        def __call__(self, images, *arrays, **options):  # type: ignore[no-untyped-def]
            given.append((images.shape[1], options["psf"].shape[0], options["bands"]))
            return super().__call__(images, *arrays, **options)

    blends = draw_blends(2, 2, HST_BANDS, np.random.default_rng(5))
    assert len(by_deblender(Recorder(), ("F775W", "F160W"))(blends)) == 2
    assert given == [(2, 2, ("i", "y"))]


def test_positions_go_to_coarse_pixels_and_back() -> None:
    # The middle fine pixel of the first coarse one is at its center.
    assert to_coarse(np.array([[1.0, 4.0]])).tolist() == [[0.0, 1.0]]
