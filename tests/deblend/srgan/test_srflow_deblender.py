"""The srflow deblender: samples of known content in, agreement, probabilities and quality out."""

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raydeblend.deblend.preparation import prepare
from raydeblend.deblend.sources import Sources
from raydeblend.deblend.srgan.config import AgreementConfig, SrflowDeblenderConfig
from raydeblend.deblend.srgan.srflow import (
    SrflowDeblender,
    agreement,
    quality_of,
    rated,
    source_map,
)
from raydeblend.errors import ConfigError
from raydeblend.instruments import FACTOR
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.srflow import Condition, Sampling, Srflow, SrflowConfig
from raydeblend.networks.srgan import Srgan, SrganConfig, stretch
from raydeblend.networks.weights import Card, save_weights

SCALING = Scaling("asinh", 12.0)
CPU = torch.device("cpu")
SIZE = 32
XY = np.array([[13.0, 16.0], [17.0, 17.5]])
SHOW = 4
"""Of SAMPLES samples show the second galaxy."""
SAMPLES = 16


def spot(xy: np.ndarray, flux: float, scale: int) -> np.ndarray:
    """A round Gaussian as wide as HST's PSF or HSC's, on fine or coarse pixels."""
    width = 0.85 if scale == FACTOR else 1.45
    center = scale * xy + (scale - 1) / 2
    y, x = np.indices((scale * SIZE, scale * SIZE))
    radius2 = (x - center[0]) ** 2 + (y - center[1]) ** 2
    return np.asarray(flux * np.exp(-radius2 / (2 * width**2)) / (2 * np.pi * width**2))


class Undecided(nn.Module):
    """A flow that shows the second galaxy in some of its samples."""

    def condition(self, low: Tensor) -> Condition:
        return Condition(low, low)

    def samples(self, condition: Condition, sampling: Sampling) -> Tensor:
        images = [
            spot(XY[0], 3000, FACTOR) + (k < SHOW) * spot(XY[1], 1200, FACTOR)
            for k in range(sampling.samples)
        ]
        stretched = stretch(torch.from_numpy(np.array(images, np.float32)), SCALING.softening)
        return stretched[:, None, None].expand(-1, len(condition.channels), -1, -1, -1)


@pytest.fixture(scope="module")
def undecided() -> SrflowDeblender:
    config = SrflowDeblenderConfig(sampling=Sampling(SAMPLES))
    return SrflowDeblender(Undecided(), SCALING, ("F775W",), CPU, config=config)


def blend(flux: float) -> np.ndarray:
    """HSC's image of the first galaxy and a second one of this flux."""
    rng = np.random.default_rng(0)
    light = spot(XY[0], 3000, 1) + spot(XY[1], flux, 1)
    return (light + rng.standard_normal(light.shape))[None, None].astype(np.float32)


@pytest.fixture(scope="module")
def psf() -> np.ndarray:
    y, x = np.indices((25, 25)) - 12
    stamp = np.exp(-(x**2 + y**2) / (2 * 1.45**2))
    return np.asarray(stamp / stamp.sum(), np.float32)[None]


def test_the_pixels_confirm_what_a_few_samples_show_and_the_probability_tells(
    undecided: SrflowDeblender, psf: np.ndarray
) -> None:
    image = blend(1200)
    result = undecided(image, np.ones_like(image), psf=psf, bands=("i",), pixel_scale=0.18)
    assert result.n_sources[0] == 2
    assert result.xy[0] == pytest.approx(XY, abs=0.3)
    assert result.extra["probability"][0] == pytest.approx([1, SHOW / SAMPLES])
    assert result.extra["p_blend"][0] == pytest.approx(SHOW / SAMPLES)
    assert list(result.quality) == ["low"]


def test_what_the_pixels_do_not_show_goes(undecided: SrflowDeblender, psf: np.ndarray) -> None:
    image = blend(0)
    result = undecided(image, np.ones_like(image), psf=psf, bands=("i",), pixel_scale=0.18)
    assert result.n_sources[0] == 1
    assert result.extra["probability"][0] == pytest.approx([1])
    # No doubt is left; whether it is high depends on the convergence of the fit.
    assert result.quality[0] != "low"


def test_without_a_psf_most_samples_decide(undecided: SrflowDeblender) -> None:
    image = blend(1200)
    result = undecided(image, np.ones_like(image))
    assert result.n_sources[0] == 1
    assert result.xy[0, 0] == pytest.approx(XY[0], abs=0.3)
    # The segments are unrated: of medium quality at most.
    assert list(result.quality) == ["medium"]


def test_the_view_has_mean_spread_and_probability(undecided: SrflowDeblender) -> None:
    view = undecided.look(prepare(blend(1200), np.ones((1, 1, SIZE, SIZE))), ("i",))
    assert view.samples.shape == (SAMPLES, 1, FACTOR * SIZE, FACTOR * SIZE)
    assert view.sharp.shape == view.spread.shape == (1, FACTOR * SIZE, FACTOR * SIZE)
    x, y = (FACTOR * XY[1] + 1).round().astype(int)
    values = view.samples[:, 0, y, x]
    assert view.spread[0, y, x] == pytest.approx(np.std(values, ddof=1), rel=1e-4)
    assert view.spread[0, 0, 0] == pytest.approx(0, abs=1e-6)
    assert values.min() < view.sharp[0, y, x] < values.max()
    assert view.p_blend == pytest.approx([SHOW / SAMPLES])


def test_a_map_is_as_high_as_the_part_of_the_samples() -> None:
    there, empty = np.array([[10.0, 12.0]]), np.zeros((0, 2))
    sources = source_map([there, there, empty, empty], (24, 30))
    assert sources.shape == (24, 30)
    assert np.unravel_index(sources.argmax(), sources.shape) == (12, 10)
    assert sources.max() == pytest.approx(0.5)
    assert source_map([empty, empty], (24, 30)).max() == 0


def test_a_peak_stands_for_one_source() -> None:
    places = np.array([[10.0, 10.0], [12.0, 10.0]])
    one, two = np.array([[10.5, 10.0]]), np.array([[10.0, 10.0], [12.5, 10.0]])
    assert agreement(places, [one, one, two, two]) == pytest.approx([1, 0.5])
    assert agreement(np.zeros((0, 2)), [one]).shape == (0,)


def test_the_most_doubtful_source_rates_a_stamp() -> None:
    config = AgreementConfig(high=0.9, medium=0.5)
    for probability, quality in (([1, 0.95], "high"), ([1, 0.6], "medium"), ([0.3], "low")):
        assert quality_of(np.array(probability), config) == quality
    assert quality_of(np.zeros(0), config) == "none"
    models = np.ones((1, 1, 8, 8), np.float32)
    bad_fit = Sources(models, np.array([[3, 3]], np.float32), "low", {"flux": np.ones(1)})
    found = rated(bad_fit, [np.array([[10.0, 10.0]])], np.float32(0), config)
    assert found.quality == "low"
    assert set(found.measured) == {"flux", "probability"}


def test_any_size_and_other_weights_are_refused(tmp_path: Path) -> None:
    generator = SrganConfig(features=8, blocks=1, fine_features=8, fine_layers=1)
    config = SrflowConfig(widths=(8, 8), embedding=8, generator=generator)
    card = Card("srflow", asdict(config), ("F775W",), (0.18, 0.18), SCALING)
    path = save_weights(str(tmp_path), "srflow", Srflow(config), card)
    few = SrflowDeblenderConfig(sampling=Sampling(2, 1))
    deblender = SrflowDeblender.load("cpu", path, few)
    assert deblender.name == "srflow"
    images = np.random.default_rng(2).standard_normal((3, 1, 33, 40)).astype(np.float32)
    result = deblender(images, bands=("i",))
    assert result.models.shape[0] == 3
    assert result.models.shape[3:] == (33, 40)
    assert deblender.weights_hash != SrflowDeblender.load("cpu", path).weights_hash
    wider = replace(card, architecture=asdict(replace(config, inflation=1.5)))
    widened = save_weights(str(tmp_path / "wider"), "srflow", deblender.network, wider)
    assert deblender.weights_hash != SrflowDeblender.load("cpu", widened, few).weights_hash
    card = Card("srgan", asdict(generator), ("F775W",), (0.18, 0.18), SCALING)
    other = save_weights(str(tmp_path), "srgan", Srgan(generator), card)
    with pytest.raises(ConfigError, match="is a srgan, not an srflow"):
        SrflowDeblender.load("cpu", other)
