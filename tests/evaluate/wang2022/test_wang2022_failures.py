"""Failures of deblenders whose failures are known."""

import io

import numpy as np
import pytest
from matplotlib.image import imread

from raydeblend.evaluate.common.blends import Blends, BlendSet
from raydeblend.evaluate.common.figures import read_caption
from raydeblend.evaluate.wang2022.failure_figures import failure_figure
from raydeblend.evaluate.wang2022.failures import equally_bright, examples, find_failures
from raydeblend.evaluate.wang2022.figures import flux_figure, moment_figure, quality_flux_figure
from raydeblend.evaluate.wang2022.scores import evaluate_wang2022
from raydeblend.evaluate.wang2022.tables import failure_table, flux_table, moment_table
from raydeblend.tile import Deblended

FLUX = ((100, 95), (100, 30), (100, 90), (100, 50))


@pytest.fixture(scope="module")
def data():
    """Four blends of two Gaussians 8 pixels apart, the first and third equally bright."""
    rng = np.random.default_rng(0)
    y, x = np.indices((40, 40)).astype(float)
    xy = np.array([[16.0, 20.0], [24.0, 21.0]]) + np.zeros((4, 1, 1))
    shape = np.exp(
        -((x - xy[..., 0, None, None]) ** 2 / 12) - (y - xy[..., 1, None, None]) ** 2 / 6
    )
    isolated = (np.array(FLUX)[..., None, None] * shape)[:, :, None] * np.ones((1, 1, 3, 1, 1))
    images = isolated.sum(axis=1) + rng.normal(size=(4, 3, 40, 40))
    blends = Blends(*(a.astype(np.float32) for a in (images, isolated, xy)))
    return BlendSet((blends,), np.ones((3, 5, 5), np.float32) / 25, ("g", "r", "i"), 0.2)


class Scripted:
    """Gets the second and fourth blend right; one model of both galaxies in the first, a third
    model in the third."""

    name = "scripted"

    def __init__(self, data, right=False):
        self.blends, self.right = data.blends[0], right

    def __call__(self, images, **_):
        rows = [int(np.abs(self.blends.images - image).sum((1, 2, 3)).argmin()) for image in images]
        n = len(rows)
        models = np.zeros((n, 3, *images.shape[1:]), np.float32)
        xy = np.full((n, 3, 2), np.nan, np.float32)
        count = np.full(n, 2)
        for i, row in enumerate(rows):
            models[i, :2], xy[i, :2] = self.blends.isolated[row], self.blends.xy[row]
            if not self.right and row == 0:
                models[i, 0], models[i, 1], count[i] = models[i].sum(0), 0, 1
            if not self.right and row == 2:
                xy[i, 2], count[i] = (5, 5), 3
        quality = np.where(np.array(rows) == 1, "high", "medium")
        return Deblended(models, count, xy, quality)


@pytest.fixture(scope="module")
def scores(data):
    both = {"scripted": Scripted(data), "right": Scripted(data, right=True)}
    return evaluate_wang2022(both, data)[1]


def test_each_failure_has_its_kind(scores):
    failures = find_failures(scores[0])
    assert failures.wrong.tolist() == [True, False, True, False]
    assert failures.missing.tolist() == [True, False, False, False]
    assert failures.extra.tolist() == [False, False, True, False]
    assert failures.merged.tolist() == [True, False, False, False]
    assert failures.equal.tolist() == [True, False, True, False]
    assert failures.label(0) == "two in one, equally bright"
    assert not find_failures(scores[1]).wrong.any()
    cells = failure_table(scores).rows[0]
    assert cells[:3] == ["2", "scripted", "4"]
    assert [cell.split(" ")[0] for cell in cells[3:]] == ["2", "1", "1", "1", "1", "2", "2"]


def test_a_faint_share_is_no_merger(scores):
    assert not find_failures(scores[1]).merged.any()
    assert equally_bright(np.array([[10.0, 8.0, 1.0], [10.0, 7.9, 1.0]])).tolist() == [True, False]


def test_examples_are_those_that_only_one_gets_right(scores):
    assert examples(*scores) == ([0, 2], [])
    assert examples(*scores[::-1]) == ([], [0, 2])


def test_the_gallery_shows_them(data, scores):
    pair = Scripted(data), Scripted(data, right=True)
    png = failure_figure(*pair, *scores, data)
    assert imread(io.BytesIO(png)).std() > 0.05
    assert "Figs. 13 and 14" in read_caption(png)
    assert failure_figure(pair[1], pair[1], scores[1], scores[1], data) is None


def test_figures_have_captions_and_tables_the_numbers(scores):
    for png in (flux_figure(scores), quality_flux_figure(scores[0]), moment_figure(scores[0])):
        assert imread(io.BytesIO(png)).std() > 0.05
        assert "Wang et al. 2022, Fig" in read_caption(png)
    # Four true fluxes are recovered exactly; the second galaxy is missing once.
    lines = flux_table([scores[1]]).rows
    assert lines[0][:6] == ["1 of 2", "right", "all", "4", "4", "–"]
    second = next(line for line in lines if line[0] == "2 of 2")
    assert second[5].startswith("1.000 ±0.000")
    assert moment_table([scores[1]]).rows[0][2] == "+0.000 ±0.000"
