"""Accuracies of counters whose answers are known, and of the shipped one."""

from pathlib import Path

import numpy as np
import pytest

from raydeblend.deblend.counter import GalaxyCounter
from raydeblend.evaluate.common.blends import read_blends, to_blend_set
from raydeblend.evaluate.wang2022.counting import (
    add_noise,
    count_test_set,
    counter_rows,
    counter_table,
)
from raydeblend.simulate.protocols import wang2022_blends
from raydeblend.survey import get_survey

VALID = Path(__file__).parents[4] / "shared/data/protocols/wang2022_valid.npz"
BANDS = ("g", "r", "i")


@pytest.fixture(scope="module")
def data():
    return to_blend_set(wang2022_blends(3, seed=4))


def test_a_counter_that_always_says_two_is_right_on_two(data):
    noisy, noiseless = count_test_set(lambda images: np.full(len(images), 2), data)
    # Of three blends of two: none, either galaxy and both; and three blends of three.
    assert noisy.table[:, 2].tolist() == noiseless.table[:, 2].tolist() == [3, 6, 3, 3]
    rows = counter_rows([noisy, noiseless])
    assert [rows[0][f"accuracy_{k}"] for k in range(4)] == [0, 0, 1, 0]
    assert rows[0]["accuracy"] == pytest.approx(3 / 15)
    assert rows[0]["accuracy_2_low"] < 1
    assert "100.0% ±" in str(counter_table(rows).rows)


def test_images_hold_what_they_are_called(data):
    sky = [get_survey("LSST").band(band).sky_electrons for band in BANDS]
    totals = []

    def keep(images):
        totals.append(images.astype(float).sum())
        return np.zeros(len(images), dtype=int)

    count_test_set(keep, data)
    two, three = data.blends
    expected = two.isolated.sum(), 0, *two.isolated.sum((0, 2, 3, 4)), three.isolated.sum()
    noise = 3 * np.sqrt(3 * 3 * 80 * 80 * (1 + three.isolated.sum() / np.sqrt(min(sky)) / 57600))
    for value in expected:
        assert np.min(np.abs(np.array(totals) - value)) < 1e-3 * abs(value) + noise


def test_noise_is_that_of_sky_and_source():
    rng = np.random.default_rng(0)
    sky = get_survey("LSST").band("r").sky_electrons
    scene = np.full((40, 3, 30, 30), 200.0, dtype=np.float32)
    noise = add_noise(scene, BANDS, rng) - scene
    assert noise[:, 1].std() == pytest.approx(np.sqrt(1 + 200 / np.sqrt(sky)), rel=0.01)


@pytest.mark.skipif(not VALID.exists(), reason="needs ../shared/data")
def test_the_shipped_counter_tells_no_galaxy_from_one():
    noisy, noiseless = count_test_set(GalaxyCounter.load(), read_blends(str(VALID)).first(16))
    for table in (noisy.table, noiseless.table):
        assert table[0, 0] >= 15
        assert table[1, 0] <= 6
    assert np.trace(noisy.table) / noisy.table.sum() > 0.7
