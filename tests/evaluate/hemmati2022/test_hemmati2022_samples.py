"""Scores of a flow's samples: coverage, PSNR, probabilities, tables and figure."""

import io

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from raydeblend.deblend.srgan.config import SrflowDeblenderConfig
from raydeblend.deblend.srgan.deblender import SrganDeblender
from raydeblend.deblend.srgan.srflow import SrflowDeblender
from raydeblend.errors import ConfigError
from raydeblend.evaluate.hemmati2022.report import load_networks
from raydeblend.evaluate.hemmati2022.samples import (
    SampleScores,
    decibels,
    inside,
    sample_rows,
    sample_tables,
    score_samples,
)
from raydeblend.evaluate.hemmati2022.samples_figure import samples_figure
from raydeblend.evaluate.hemmati2022.scores import Example
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.srflow import Sampling, Srflow, SrflowConfig
from raydeblend.networks.srgan import Srgan, SrganConfig
from raydeblend.simulate.sharp_blends import SharpTest

GENERATOR = SrganConfig(features=8, blocks=1, fine_features=8, fine_layers=1)
CPU = torch.device("cpu")


@pytest.mark.parametrize("level", [0.68, 0.95])
@pytest.mark.parametrize("width", [1.0, 0.5])
def test_coverage_of_gaussian_samples(level: float, width: float) -> None:
    """Truths from the samples' own Gaussian are inside as often as said; from a wider one, less."""
    rng = np.random.default_rng(1)
    samples = width * rng.standard_normal((16, 60000))
    covered = inside(samples, rng.standard_normal(60000), level).mean()
    if width == 1:
        assert covered == pytest.approx(level, abs=0.01)
    else:
        assert covered < level - 0.15


def test_decibels_are_those_of_the_stretched_unit() -> None:
    truth = np.zeros((1, 6, 6))
    image = np.full((1, 6, 6), np.sinh(1.2) / 9)
    assert decibels(image, truth, 12.0) == pytest.approx([20.0], abs=1e-3)


def test_tables_say_how_often_hst_agrees() -> None:
    p_blend = np.array([0.02, 0.05, 0.95, 0.97, 0.99, 1.0])
    is_blend = np.array([False, False, True, True, True, False])
    part = {68: np.array([0.6, 0.8]), 95: np.array([0.9, 1.0])}
    scores = SampleScores(
        {"srflow, mean": np.array([30.0, 32.0])}, part, part, p_blend, is_blend, 16
    )
    rows = sample_rows(scores, "srflow")
    assert rows[0]["psnr_mean"] == pytest.approx(31)
    assert rows[1]["inside_68_lit"] == pytest.approx(0.7)
    images, intervals, probabilities = sample_tables(scores, rows)
    assert images.rows[0][0] == "srflow, mean"
    assert intervals.rows[1][1].startswith("0.950")
    assert [row[:2] for row in probabilities.rows] == [["0.0 to 0.1", "2"], ["0.9 to 1.0", "4"]]
    assert probabilities.rows[1][3].startswith("0.750")


@pytest.fixture(scope="module")
def flow() -> SrflowDeblender:
    torch.manual_seed(0)
    network = Srflow(SrflowConfig(widths=(8, 8), embedding=8, generator=GENERATOR)).eval()
    config = SrflowDeblenderConfig(sampling=Sampling(4, 1))
    return SrflowDeblender(network, Scaling("asinh", 12.0), ("F775W",), CPU, config=config)


def test_a_network_is_scored_beside_another_and_drawn(flow: SrflowDeblender) -> None:
    gan = SrganDeblender(Srgan(GENERATOR).eval(), flow.scaling, ("F775W",), CPU)
    test = SharpTest(4, seed=4)
    scores = score_samples(flow, {"srgan": gan}, test)
    assert list(scores.psnr) == ["srflow, mean", "one sample", "srgan"]
    assert len(scores.p_blend) == len(scores.is_blend) == 8
    assert all(len(values) == 4 for values in scores.psnr.values())
    blends = test.chunk(0)
    examples = [Example(blends[i : i + 1], np.zeros((66, 66), np.float32), {}) for i in range(2)]
    picture = imread(io.BytesIO(samples_figure(flow, examples)))
    assert picture.shape[1] > 3 * picture.shape[0]


def test_the_flow_has_one_band() -> None:
    with pytest.raises(ConfigError, match="srflow has one band, not 7"):
        load_networks(7, flow=True)
