"""The autoencoder as a deblender: peaks, geometry, light and uncertainties.

The network is a stand-in that is right by construction: its encoder reads off the flux and the
decoder draws the one shape that all galaxies here have.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from raydeblend.deblend.vae.centered import CenteredVae
from raydeblend.deblend.vae.deblender import VaeDeblender, quality_of
from raydeblend.deblend.vae.latent_fit import cut_out, paste
from raydeblend.deblend.vae.peaks import detect
from raydeblend.errors import ConfigError
from raydeblend.networks.rdn import Rdn, RdnConfig
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.vae import LOG_FLUX_CENTER, LOG_FLUX_SPREAD, Vae, VaeConfig
from raydeblend.networks.weights import Card, save_weights

WIDTH = 2.0
SPREAD = 0.1
"""Standard deviation of the one latent variable, so that of ln flux is 0.2."""


def gaussian(shape: tuple[int, int], x: float, y: float) -> np.ndarray:
    """A galaxy of flux 1 at (x, y)."""
    rows, columns = np.indices(shape)
    squared = (columns - x) ** 2 + (rows - y) ** 2
    return (np.exp(-squared / (2 * WIDTH**2)) / (2 * np.pi * WIDTH**2)).astype(np.float32)


class _Encoder(torch.nn.Module):
    """Matched-filter flux in the middle, as ln flux = center + spread * z."""

    def forward(self, channels: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        weight = torch.from_numpy(gaussian(image.shape[-2:], 15.5, 15.5))
        flux = (image[:, 0] * weight).sum(dim=(1, 2)) / (weight**2).sum()
        z = (flux.clamp(min=1).log() - LOG_FLUX_CENTER) / LOG_FLUX_SPREAD
        return z[:, None], torch.full_like(z[:, None], float(np.log(SPREAD)))


class _Decoder(torch.nn.Module):
    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = torch.from_numpy(gaussian((32, 32), 15.5, 15.5))[None, None]
        return shape.expand(len(z), 1, 32, 32), LOG_FLUX_CENTER + LOG_FLUX_SPREAD * z


@pytest.fixture
def deblender() -> VaeDeblender:
    net = Vae(VaeConfig(1, 32, (4,), 1, 4, 2))
    net.encoder, net.decoder = _Encoder(), _Decoder()
    return VaeDeblender(net, Scaling("asinh"), ("IE",), torch.device("cpu"))


def scene(
    shape: tuple[int, int], sources: list[tuple[float, float, float]], seed: int = 0
) -> np.ndarray:
    truth = sum(flux * gaussian(shape, x, y) for x, y, flux in sources)
    return (truth + np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


@pytest.mark.parametrize("shape", [(24, 24), (33, 50), (96, 80)])
def test_a_blend_is_taken_apart_whatever_the_size_of_the_stamp(
    deblender: VaeDeblender, shape: tuple[int, int]
) -> None:
    y, x = shape[0] // 2 - 0.5, shape[1] // 2 - 0.5
    sources = [(x - 4, y, 2000.0), (x + 4, y + 2, 1000.0)]
    image = scene(shape, sources)
    result = deblender(image[None, None], np.ones((1, 1, *shape)))
    assert result.n_sources.tolist() == [2]
    np.testing.assert_allclose(result.xy[0], [(s[0], s[1]) for s in sources], atol=0.5)
    # Part of a galaxy's light is beyond the smallest stamp: compare with what is inside.
    inside = [s[2] * gaussian(shape, s[0], s[1]).sum() for s in sources]
    np.testing.assert_allclose(result.models[0].sum(axis=(1, 2, 3)), inside, rtol=0.08)
    assert result.quality[0] in ("high", "medium")


def test_the_unit_of_the_input_is_that_of_the_output(deblender: VaeDeblender) -> None:
    image = scene((48, 48), [(20.0, 24.0, 1500.0), (28.0, 24.0, 1500.0)])[None, None]
    one = deblender(image, np.ones_like(image))
    other = deblender(image * 1e-3, np.ones_like(image) * 1e-6)
    np.testing.assert_allclose(other.models, one.models * 1e-3, rtol=1e-3, atol=1e-6)
    for name in ("flux_err_model", "model_std"):
        np.testing.assert_allclose(other.extra[name], one.extra[name] * 1e-3, rtol=1e-3, atol=1e-6)


def test_uncertainties_are_those_of_the_posterior(deblender: VaeDeblender) -> None:
    image = scene((48, 48), [(23.5, 23.5, 3000.0)])[None, None]
    result = deblender(image, np.ones_like(image))
    error = result.extra["flux_err_model"]
    assert error.shape == (1, 1, 1)
    relative = float(error[0, 0, 0]) / float(result.models[0, 0].sum())
    # Sixteen samples of a log-normal of width 0.2 know it to about a fifth.
    assert relative == pytest.approx(SPREAD * LOG_FLUX_SPREAD, rel=0.5)
    assert result.extra["model_std"].shape == result.models.shape
    again = deblender(image, np.ones_like(image))
    np.testing.assert_array_equal(again.extra["flux_err_model"], error)


def test_a_source_is_as_uncertain_whatever_else_is_in_the_batch(deblender: VaeDeblender) -> None:
    one = scene((48, 48), [(23.5, 23.5, 3000.0)])
    two = scene((48, 48), [(15.5, 23.5, 900.0), (30.5, 20.5, 5000.0)], seed=1)
    alone = deblender(one[None, None], np.ones((1, 1, 48, 48)))
    batch = deblender(np.stack([two, one])[:, None], np.ones((2, 1, 48, 48)))
    expected = alone.extra["flux_err_model"][0, 0]
    np.testing.assert_allclose(batch.extra["flux_err_model"][1, 0], expected, rtol=1e-4)


def test_bands_that_the_network_lacks_take_its_shape(deblender: VaeDeblender) -> None:
    first = scene((48, 48), [(23.5, 23.5, 2000.0)])
    second = scene((48, 48), [(23.5, 23.5, 500.0)], seed=1)
    images = np.stack([first, second, first])[None]
    variance = np.ones_like(images)
    variance[0, 2] = 0
    result = deblender(images, variance, bands=("r", "i", "z"))
    flux = result.models[0, 0].sum(axis=(1, 2))
    np.testing.assert_allclose(flux[:2], [2000, 500], rtol=0.1)
    assert flux[2] == 0


def test_an_empty_stamp_has_no_source(deblender: VaeDeblender) -> None:
    image = np.random.default_rng(3).normal(size=(2, 1, 40, 40)).astype(np.float32)
    result = deblender(image, np.ones_like(image))
    assert result.n_sources.tolist() == [0, 0]
    assert result.quality.tolist() == ["none", "none"]
    assert not result.models.any()


def test_an_empty_batch_gives_none(deblender: VaeDeblender) -> None:
    for each in (deblender, CenteredVae(deblender)):
        result = each(np.zeros((0, 1, 40, 40), dtype=np.float32))
        assert result.models.shape == (0, 1, 1, 40, 40)
        assert len(result.quality) == len(result.n_sources) == 0


def test_the_centered_galaxy_alone_is_decoded(deblender: VaeDeblender) -> None:
    image = scene((32, 32), [(15.5, 15.5, 2000.0)])[None, None]
    result = CenteredVae(deblender)(image, np.ones_like(image))
    assert result.n_sources.tolist() == [1]
    assert result.models[0, 0].sum() == pytest.approx(2000, rel=0.05)
    assert float(result.extra["flux_err_model"][0, 0, 0]) > 0


def test_peaks_of_noise_are_rare() -> None:
    rng = np.random.default_rng(4)
    weight = np.ones((1, 64, 64), dtype=np.float32)
    counts = [
        len(detect(rng.normal(size=(1, 64, 64)).astype("f4"), weight, 1.5)) for _ in range(50)
    ]
    assert sum(counts) <= 1


def test_pasting_undoes_cutting() -> None:
    images = np.random.default_rng(5).normal(size=(3, 2, 20, 30)).astype(np.float32)
    corners = np.array([[-5, 3], [10, 25], [2, -7]])
    back = paste(cut_out(images, corners, 16), corners, (20, 30))
    rows, columns = np.indices((20, 30))
    for k, (y, x) in enumerate(corners):
        covered = (rows >= y) & (rows < y + 16) & (columns >= x) & (columns < x + 16)
        np.testing.assert_array_equal(back[k], np.where(covered, images[k], 0))


@pytest.mark.parametrize(("error", "quality"), [(0.0, "high"), (1.2, "medium"), (3.0, "low")])
def test_quality_is_what_the_models_leave(error: float, quality: str) -> None:
    model = 50 * np.ones((1, 1, 30, 30), dtype=np.float32)
    image = model[0] + np.random.default_rng(6).normal(size=(1, 30, 30)) + error
    assert quality_of(image.astype("f4"), np.ones((1, 30, 30), "f4"), model) == quality


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    config = RdnConfig(1, 1, blocks=1, layers=1, features=4, growth=4)
    card = Card("rdn", vars(config), ("IE",), (0.1, 0.1), Scaling())
    path = save_weights(str(tmp_path), "rdn", Rdn(config), card)
    with pytest.raises(ConfigError, match="not an autoencoder"):
        VaeDeblender.load("cpu", path)


def test_a_network_of_three_bands_runs_end_to_end(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = VaeConfig(3, 32, (8, 8), 4, 16, 2, (2.0,))
    card = Card("vae-deblend", vars(config), ("g", "r", "i"), (0.168, 0.2), Scaling("asinh"))
    path = save_weights(str(tmp_path), "vae-deblend", Vae(config), card)
    rng = np.random.default_rng(7)
    images = rng.normal(size=(3, 3, 40, 44)).astype(np.float32)
    images[1] += 3000 * gaussian((40, 44), 20.0, 20.0)
    result = VaeDeblender.load("cpu", path)(images, np.ones_like(images), bands=("g", "r", "i"))
    assert result.models.shape[2:] == (3, 40, 44)
    assert np.isfinite(result.models).all()
    assert result.n_sources[0] == 0
