"""The readings of the paper's PSNR on images whose errors are known."""

import numpy as np
import pytest

from raydeblend.evaluate.common.blends import Blends
from raydeblend.evaluate.common.tables import to_markdown
from raydeblend.evaluate.wang2022.paper import PAPER_SCORES
from raydeblend.evaluate.wang2022.reading_tables import reading_rows, reading_tables
from raydeblend.evaluate.wang2022.readings import PSNR_READINGS, psnr_readings
from raydeblend.evaluate.wang2022.scores import Scores

ERROR = np.array([0.3, 0.4])[:, None, None]
"""Of every pixel of the models, by band; the mean square is 0.125."""


@pytest.fixture
def blends() -> Blends:
    """One noiseless blend in two bands: peaks of 100 and 50, and of 20 and 40."""
    isolated = np.zeros((1, 2, 2, 8, 8))
    isolated[0, 0, :, 2, 2] = 100, 50
    isolated[0, 1, :, 6, 6] = 20, 40
    return Blends(isolated.sum(axis=1), isolated, np.array([[[2.0, 2], [6, 6]]]))


def decibels(mean_square: float, maximum: float) -> float:
    return 20 * np.log10(maximum) - 10 * np.log10(mean_square)


def test_every_reading_of_a_constant_error(blends: Blends) -> None:
    values = psnr_readings(blends, blends.isolated + ERROR)
    assert values.shape == (1, 2, len(PSNR_READINGS))
    first, second = (dict(zip(PSNR_READINGS, row, strict=True)) for row in values[0])
    six = 20 * np.log10(2)
    for got, truth, peeled_from in ((first, 100, 100), (second, 40, 40 - 0.4)):
        assert got["blend [0, 1]"] == pytest.approx(decibels(0.125, 100))
        assert got["blend [-1, 1]"] == pytest.approx(decibels(0.125, 100) - six)
        assert got["truth [0, 1]"] == pytest.approx(decibels(0.125, truth))
        assert got["truth [-1, 1]"] == pytest.approx(decibels(0.125, truth) - six)
        assert got["input [0, 1]"] == pytest.approx(decibels(0.125, peeled_from))
        # The bands' maxima are 100 and 50.
        mean_square = ((0.3 / 100) ** 2 + (0.4 / 50) ** 2) / 2
        assert got["bands [0, 1]"] == pytest.approx(decibels(mean_square, 1))


def test_gray_levels_limit_the_psnr_of_a_perfect_model() -> None:
    # Rounding of values that are spread evenly has a variance of a twelfth of a level's square.
    rng = np.random.default_rng(1)
    isolated = rng.uniform(0, 100, (1, 1, 3, 64, 64))
    isolated[..., 0, 0] = 100
    values = psnr_readings(Blends(isolated[:, 0], isolated, np.zeros((1, 1, 2))), isolated)
    got = dict(zip(PSNR_READINGS, values[0, 0], strict=True))
    assert got["8 bits"] == pytest.approx(20 * np.log10(255) + 10 * np.log10(12), abs=0.1)
    assert np.isinf(got["blend [0, 1]"])


def test_tables_say_by_which_readings_a_deblender_is_above_the_paper() -> None:
    mean, median = PAPER_SCORES[2, 1][:2]
    n = len(PSNR_READINGS)
    readings = np.full((3, 2, n), 10.0)
    # Above the paper's mean, not above its median.
    readings[:, 0, 0] = median - 0.1
    # Above both.
    readings[:, :, 1] = 70.0
    assert median - 0.1 > mean
    empty = np.zeros((3, 2))
    quality, models = np.full(3, "high"), np.zeros((0, 2, 3, 1, 1), np.float32)
    scores = Scores("mine", *(empty,) * 4, quality, models, 0.0, readings=readings)
    rows = reading_rows([scores])
    assert len(rows) == 2 * n
    assert (rows[0]["reading"], rows[0]["paper_mean"]) == ("blend [0, 1]", mean)
    psnr, above = reading_tables(rows)
    assert psnr.rows[0][2:4] == [f"{median - 0.1:.2f} / {median - 0.1:.2f}", "70.00 / 70.00"]
    assert set(psnr.rows[1][2:]) == {f"{mean:.2f} / {median:.2f}"}
    assert above.rows == [["mine", "1 and 0 of 2", "2 and 2 of 2", *["0 and 0 of 2"] * (n - 2)]]
    assert "PSNR readings" in to_markdown([psnr, above])
