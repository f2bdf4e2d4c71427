"""The srgan deblender: with a network of known output, and with untrained weights."""

from dataclasses import asdict, replace
from pathlib import Path

import galsim
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raydeblend.deblend.srgan.config import PeakConfig, SegmentConfig, SrganDeblenderConfig
from raydeblend.deblend.srgan.deblender import (
    SrganDeblender,
    reference_band,
    segment_templates,
    sharp_peaks,
)
from raydeblend.errors import ConfigError
from raydeblend.instruments import FACTOR, FINE_SCALE, hst_psf
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.srgan import Srgan, SrganConfig, stretch
from raydeblend.networks.weights import Card, save_weights
from raydeblend.survey import draw_psf, get_survey, psf_profile

SCALING = Scaling("asinh", 12.0)
CPU = torch.device("cpu")
XY = np.array([[13.0, 16.0], [17.0, 17.5]])
FLUX = (3000.0, 1200.0)
SIZE = 32


class Oracle(nn.Module):
    """A network that has learnt this one scene: it returns what HST would see."""

    def __init__(self, sharp: np.ndarray) -> None:
        super().__init__()
        self.image = stretch(torch.from_numpy(sharp)[None, None], SCALING.softening)

    def forward(self, low: Tensor) -> Tensor:
        return self.image.expand(len(low), -1, -1, -1)


def scene(psf: galsim.GSObject, scale: float, size: int) -> np.ndarray:
    """Both galaxies ``(2, y, x)``, each pixel of the large grid FACTOR of the fine one."""
    images = []
    for (x, y), flux in zip(XY, FLUX, strict=True):
        galaxy = galsim.Exponential(half_light_radius=0.2, flux=flux)
        offset = ((x - (SIZE - 1) / 2) * 0.18 / scale, (y - (SIZE - 1) / 2) * 0.18 / scale)
        seen = galsim.Convolve(galaxy, psf)
        images.append(seen.drawImage(nx=size, ny=size, scale=scale, offset=offset).array)
    return np.stack(images)


@pytest.fixture(scope="module")
def hsc() -> galsim.GSObject:
    return psf_profile(get_survey("HSC"), "i")


@pytest.fixture(scope="module")
def truth(hsc: galsim.GSObject) -> np.ndarray:
    return scene(hsc, 0.18, SIZE)


@pytest.fixture(scope="module")
def oracle() -> SrganDeblender:
    sharp = scene(hst_psf("F775W"), FINE_SCALE, FACTOR * SIZE).sum(axis=0)
    return SrganDeblender(Oracle(sharp), SCALING, ("F775W",), CPU)


def noisy(truth: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (truth.sum(axis=0) + rng.standard_normal((SIZE, SIZE)))[None, None].astype(np.float32)


def test_positions_of_the_sharp_image_and_fluxes_of_the_original(
    oracle: SrganDeblender, truth: np.ndarray, hsc: galsim.GSObject
) -> None:
    image = noisy(truth)
    psf = draw_psf(hsc, 0.18)[None]
    result = oracle(image, np.ones_like(image), psf=psf, bands=("i",), pixel_scale=0.18)
    assert result.n_sources[0] == 2
    assert result.xy[0] == pytest.approx(XY, abs=0.3)
    found = result.models[0].sum(axis=(1, 2, 3))
    assert found == pytest.approx(truth.sum(axis=(1, 2)), rel=0.1)
    assert result.models.shape == (1, 2, 1, SIZE, SIZE)


def test_without_a_psf_the_segments_are_fitted(oracle: SrganDeblender, truth: np.ndarray) -> None:
    image = noisy(truth)
    both = np.concatenate([image, 3 * image], axis=1)
    result = oracle(both, np.ones_like(both), bands=("i", "r"))
    found = result.models[0].sum(axis=(2, 3))
    assert found[:, 0] == pytest.approx(truth.sum(axis=(1, 2)), rel=0.2)
    assert found[:, 1] == pytest.approx(3 * found[:, 0], rel=0.01)
    assert list(result.quality) == ["medium"]
    one = replace(oracle, config=SrganDeblenderConfig(peaks=PeakConfig(max_sources=1)))
    assert one(both, np.ones_like(both), bands=("i", "r")).n_sources.tolist() == [1]


def test_imagined_and_masked_sources_are_dropped(oracle: SrganDeblender, truth: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    empty = rng.standard_normal((1, 1, SIZE, SIZE)).astype(np.float32)
    assert oracle(empty, np.ones_like(empty)).n_sources[0] == 0
    mask = np.zeros((1, SIZE, SIZE), dtype=bool)
    mask[0, 12:25, 15:25] = True
    image = noisy(truth)
    result = oracle(image, np.ones_like(image), mask=mask)
    assert result.xy[0, 0] == pytest.approx(XY[0], abs=0.3)
    assert result.n_sources[0] == 1


def test_templates_share_the_light(hsc: galsim.GSObject, truth: np.ndarray) -> None:
    sharp = scene(hst_psf("F775W"), FINE_SCALE, FACTOR * SIZE).sum(axis=0).astype(np.float32)
    assert (sharp_peaks(sharp) - 1) / 3 == pytest.approx(XY, abs=0.15)
    templates = segment_templates(sharp, XY, SegmentConfig())
    assert templates.sum() == pytest.approx(sharp.sum(), rel=0.03)
    assert templates.sum(axis=(1, 2)) == pytest.approx(truth.sum(axis=(1, 2)), rel=0.15)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    config = SrganConfig(bands=7, features=8, blocks=1, fine_features=8, fine_layers=1)
    bands = ("F435W", "F606W", "F775W", "F814W", "F850LP", "F125W", "F160W")
    card = Card("srgan-multiband", asdict(config), bands, (0.18, 0.18), SCALING)
    folder = str(tmp_path_factory.mktemp("weights"))
    return save_weights(folder, "srgan", Srgan(config), card)


@pytest.mark.parametrize(("bands", "y", "x"), [(("g", "r", "i"), 24, 37), (("i",), 33, 40)])
def test_any_bands_and_sizes(weights: str, bands: tuple[str, ...], y: int, x: int) -> None:
    deblender = SrganDeblender.load("cpu", weights)
    assert deblender.name == "srgan"
    images = np.random.default_rng(2).standard_normal((3, len(bands), y, x)).astype(np.float32)
    result = deblender(images, bands=bands)
    assert result.models.shape[0] == 3
    assert result.models.shape[2:] == (len(bands), y, x)
    assert len(result.quality) == len(result.n_sources) == 3


def test_the_reference_band() -> None:
    assert reference_band(("F435W", "F775W", "F814W")) == 1
    assert reference_band(("F606W", "F814W")) == 1
    assert reference_band(("F160W",)) == 0


def test_other_weights_are_refused(tmp_path: Path) -> None:
    from raydeblend.networks.rdn import Rdn, RdnConfig

    config = RdnConfig(blocks=1, layers=1, features=4, growth=4)
    card = Card("rdn", asdict(config), ("g", "r", "i"), (0.2, 0.2), Scaling())
    path = save_weights(str(tmp_path), "rdn", Rdn(config), card)
    with pytest.raises(ConfigError, match="not an srgan"):
        SrganDeblender.load("cpu", path)
