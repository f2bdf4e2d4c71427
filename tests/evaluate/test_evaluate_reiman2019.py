"""The protocol of Reiman & Göhre, with answers whose scores are known."""

import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from raydeblend.deblend.peeling.branched import ZooSeparator
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.blends import Blends
from raydeblend.evaluate.common.tables import to_markdown
from raydeblend.evaluate.reiman2019 import (
    CHUNK,
    GALLERY,
    ZooTest,
    by_branch,
    by_position,
    draw_figures,
    evaluate_reiman2019,
    read_test,
    score_table,
    typical,
    worst,
)
from raydeblend.evaluate.reiman2019_readings import READINGS, reading_rows, reading_table
from raydeblend.simulate.galaxy_zoo import ZooImages, draw_zoo_blends
from raydeblend.tile import Deblended

ZOO = Path(__file__).parents[3] / "shared" / "data" / "galaxy_zoo"
needs_zoo = pytest.mark.skipif(not ZOO.is_dir(), reason="needs ../shared/data/galaxy_zoo")


@pytest.fixture(scope="module")
def test_set() -> ZooTest:
    rng = np.random.default_rng(0)
    y, x = np.indices((80, 80)) - 39.5
    width = rng.uniform(4, 9, 8)[:, None, None, None]
    peak = rng.uniform(100, 240, (8, 3, 1, 1))
    images = (peak * np.exp(-(x**2 + y**2) / (2 * width**2))).astype(np.uint8)
    return ZooTest(ZooImages(images, tuple("abcdefgh"), 0), n=70, seed=3)


def off_by(first: float, second: float):
    """Return the truth with a constant error in either galaxy."""
    error = np.array([first, second], dtype=np.float32)[:, None, None, None]

    def separate(blends: Blends):
        return blends.isolated + error, np.ones(blends.isolated.shape[:2], dtype=bool)

    return separate


def test_scores_of_a_constant_error_are_known(test_set: ZooTest) -> None:
    rows, scores = evaluate_reiman2019({"off": off_by(0.01, 0.1)}, test_set)
    both, central, other = rows
    assert [row["galaxy"] for row in rows] == [0, 1, 2]
    assert [row["n"] for row in rows] == [140, 70, 70]
    # -20 log10 of the error, with MAX = 1 whatever the brightest pixel.
    assert central["psnr_mean"] == pytest.approx(40, abs=0.01)
    assert other["psnr_min"] == pytest.approx(20, abs=0.01)
    assert both["psnr_mean"] == pytest.approx(30, abs=0.01)
    assert both["psnr_var"] == pytest.approx(100, abs=0.1)
    assert (both["psnr_max"], both["psnr_min"]) == pytest.approx((40, 20), abs=0.01)
    assert both["ssim_mean"] == pytest.approx((central["ssim_mean"] + other["ssim_mean"]) / 2)
    assert 1 > central["ssim_mean"] > other["ssim_mean"]
    assert both["found"] == 1
    expected = 0.01 * 3 * 80 * 80 / scores[0].flux_true[:, 0]
    assert central["flux_bias"] == pytest.approx(np.median(expected), rel=1e-3)


def test_readings_of_a_constant_error_are_known(test_set: ZooTest) -> None:
    few = ZooTest(test_set.pictures, 6)
    _, scores = evaluate_reiman2019({"off": off_by(0.01, 0.1)}, few)
    truth = few.chunk(0).isolated[:, 0]
    got = dict(zip(READINGS, scores[0].readings[:, 0].T, strict=True))
    assert got["psnr", "[0, 1], MAX 1"] == pytest.approx(40, abs=0.01)
    assert got["psnr", "[-1, 1], MAX 1"] == pytest.approx(40 - 6.0206, abs=0.01)
    own = 40 + 20 * np.log10(truth.max(axis=(1, 2, 3)))
    assert got["psnr", "MAX of each true picture"] == pytest.approx(own, abs=0.01)
    # The first reading is that of the tables.
    assert scores[0].readings[..., 3] == pytest.approx(scores[0].ssim, abs=1e-9)
    # Luminance of the darkest windows, which have no structure: c1 decides how unlike they are.
    assert (got[READINGS[8]] > got[READINGS[3]]).all()


def test_readings_are_compared_with_the_paper(test_set: ZooTest) -> None:
    _, scores = evaluate_reiman2019({"off": off_by(0.01, 0.01)}, ZooTest(test_set.pictures, 4))
    rows = reading_rows(scores, {"psnr": (39.0, 41.0, 42.0, 30.0), "ssim": (2.0,) * 4})
    assert rows[0]["mean"] == pytest.approx(40, abs=0.01)
    table = reading_table(rows, "paper")
    assert table.rows[0][-1] == "mean, min"
    assert [line[-1] for line in table.rows[4:-1]] == ["nothing"] * 7
    assert table.rows[3] == ["PSNR", "not said", "paper", "39.00", "41.00", "42.00", "30.00", "–"]


def test_rows_have_the_fixed_columns(test_set: ZooTest) -> None:
    rows, _ = evaluate_reiman2019({"off": off_by(0.01, 0.1)}, ZooTest(test_set.pictures, 3))
    fixed = {
        *("protocol", "deblender", "n_galaxies", "galaxy", "n"),
        *("psnr_mean", "psnr_median", "ssim_mean", "ssim_median"),
        *("flux_bias", "flux_nmad", "flux_mape", "found", "seconds_per_blend"),
    }
    assert fixed <= set(rows[0])
    assert rows[0]["protocol"] == "reiman2019"
    assert rows[0]["n_galaxies"] == 2


def test_blends_do_not_depend_on_how_many_are_drawn(test_set: ZooTest) -> None:
    sizes = [len(chunk) for chunk in test_set.chunks()]
    assert sizes == [CHUNK, 70 - CHUNK]
    few = ZooTest(test_set.pictures, 5, seed=3)
    np.testing.assert_array_equal(next(few.chunks()).images, test_set.chunk(0).images[:5])
    other = ZooTest(test_set.pictures, 5, seed=4)
    assert not np.array_equal(other.chunk(0).images, few.chunk(0).images)
    picked = test_set.pick([66, 2])
    np.testing.assert_array_equal(picked.images[0], test_set.chunk(1).images[66 - CHUNK])
    np.testing.assert_array_equal(picked.isolated[1], test_set.chunk(0).isolated[2])


def test_a_network_is_scored_by_its_branches_and_a_deblender_by_positions(
    test_set: ZooTest,
) -> None:
    blends = Blends(*draw_zoo_blends(test_set.pictures.images, 8, seed=1))

    class Swapped:
        """Finds both galaxies, the other one first."""

        name = "swapped"

        def __call__(self, images, **_):
            return Deblended(
                blends.isolated[:, ::-1],
                np.full(8, 2),
                blends.xy[:, ::-1],
                np.full(8, "high"),
            )

    models, found = by_position(Swapped())(blends)
    np.testing.assert_array_equal(models, blends.isolated)
    assert found.all()
    models, found = by_branch(lambda images: blends.isolated[:, ::-1])(blends)
    np.testing.assert_array_equal(models[:, 0], blends.isolated[:, 1])


def test_galleries_show_usual_blends_and_the_worst(test_set: ZooTest) -> None:
    def fails_on_some(blends: Blends):
        models = blends.isolated.copy()
        models += 0.01 * (1 + np.arange(len(blends)))[:, None, None, None, None]
        return models, np.ones(models.shape[:2], dtype=bool)

    _, (scores,) = evaluate_reiman2019({"some": fails_on_some}, ZooTest(test_set.pictures, 40))
    assert worst(scores) == list(range(39, 39 - GALLERY, -1))
    assert set(typical(scores)) == set(range(19, 19 - GALLERY, -1))


def test_the_table_has_the_papers_line_and_figures_are_pictures(test_set: ZooTest) -> None:
    separators = {"good": off_by(0.01, 0.02)}
    few = ZooTest(test_set.pictures, 8)
    rows, scores = evaluate_reiman2019(separators, few)
    table = to_markdown([score_table(rows)])
    assert "| both    | Reiman & Göhre 2019 | 6400 | 34.61" in table
    assert table.count("| good") == 3
    figures = draw_figures(separators, scores, few)
    assert set(figures) == {"psnr.png", "ssim.png", "typical_good.png", "worst_good.png"}
    for png in figures.values():
        assert imread(io.BytesIO(png)).std() > 0.01


@needs_zoo
def test_the_real_test_pictures_are_not_those_of_training() -> None:
    from raydeblend.simulate.galaxy_zoo import split_of

    test = read_test(str(ZOO), n=4)
    assert {split_of(name) for name in test.pictures.names} == {"test"}
    assert test.chunk(0).images.shape == (4, 3, 80, 80)


@needs_zoo
def test_the_shipped_weights_are_as_good_as_the_papers_on_pictures_not_trained_on() -> None:
    # 384 galaxy images: the standard error of the means is 0.4 dB and 0.004.
    separate = by_branch(ZooSeparator.load("cpu"))
    both, central, other = evaluate_reiman2019({"zoo": separate}, read_test(str(ZOO), n=192))[0]
    assert both["psnr_mean"] > 38
    assert both["ssim_mean"] > 0.92
    assert min(central["ssim_mean"], other["ssim_mean"]) > 0.90


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no \.jpg"):
        read_test(str(tmp_path))
