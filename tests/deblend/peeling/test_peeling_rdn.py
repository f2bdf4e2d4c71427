"""The loop with networks whose answers are known, then the shipped weights."""

from dataclasses import replace
from pathlib import Path

import galsim
import numpy as np
import pytest
import torch
from blobs import BrightestBlob, blob, scene
from torch import Tensor, nn

import raydeblend
from raydeblend.deblend.counter import GalaxyCounter
from raydeblend.deblend.peeling.config import PEELING
from raydeblend.deblend.peeling.rdn import RdnDeblender, quality_of
from raydeblend.errors import ConfigError
from raydeblend.networks.context import USUAL_WIDTH
from raydeblend.networks.rdn import Rdn, RdnConfig
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.weights import load_weights, save_weights, shipped_path
from raydeblend.simulate.protocols import wang2022_blends


class Script(nn.Module):
    """Counts as scripted, one number for each call."""

    def __init__(self, counts: list[int]) -> None:
        super().__init__()
        self.counts = iter(counts)

    def forward(self, image: Tensor) -> Tensor:
        logits = torch.zeros(len(image), 4)
        logits[:, next(self.counts)] = 10
        return logits


class PeakCount(nn.Module):
    """Counts pixels above 5 sigma in all three bands that are maxima of their surroundings."""

    def forward(self, image: Tensor) -> Tensor:
        white = image.sum(dim=1, keepdim=True)
        maxima = (nn.functional.max_pool2d(white, 5, 1, 2) == white) & (white > 3 * np.arcsinh(5))
        logits = torch.zeros(len(image), 4)
        logits[torch.arange(len(image)), maxima.sum(dim=(1, 2, 3)).clamp(max=3)] = 10
        return logits


def deblender(counter: nn.Module) -> RdnDeblender:
    bands, cpu = ("g", "r", "i"), torch.device("cpu")
    count = GalaxyCounter(counter, Scaling("asinh", softening=1.0), bands, cpu)
    return RdnDeblender(BrightestBlob(), Scaling("maximum"), bands, cpu, counter=count)


@pytest.mark.parametrize(
    ("counts", "quality"),
    [
        ([2, 1, 0], "high"),
        ([3, 3, 2, 1, 0], "high"),
        ([1, 0], "high"),
        ([2, 2, 1, 0], "medium"),
        ([3, 1, 0], "medium"),
        ([2, 1, 1, 1], "low"),
        ([0], "none"),
    ],
)
def test_quality_follows_the_history_of_counts(counts: list[int], quality: str) -> None:
    history = np.array([*counts, *[-1] * (PEELING.max_peels + 1 - len(counts))])
    assert quality_of(history) == quality


def test_sources_come_brightest_first_in_the_unit_of_the_input() -> None:
    images = scene((10, 8, 50.0), (22, 20, 200.0))
    result = deblender(PeakCount())(images, variance=np.ones_like(images))
    assert result.n_sources.tolist() == [2]
    assert result.quality.tolist() == ["high"]
    np.testing.assert_allclose(result.xy[0], [[20, 22], [8, 10]], atol=0.02)
    np.testing.assert_allclose(result.models[0, 0, 0], blob(22, 20, 200.0), atol=1.5)
    np.testing.assert_allclose(result.models[0, 1, 0], blob(10, 8, 50.0), atol=1.5)


def test_the_loop_stops_when_the_count_stays_the_same_three_times() -> None:
    images = scene((10, 8, 50.0))
    result = deblender(Script([2, 2, 2, 1, 0]))(images, variance=np.ones_like(images))
    assert result.quality.tolist() == ["low"]


def test_three_or_more_may_repeat_until_the_limit() -> None:
    images = scene((10, 8, 50.0))
    result = deblender(Script([3] * (PEELING.max_peels + 1)))(images, variance=np.ones_like(images))
    assert result.quality.tolist() == ["low"]
    assert result.models.shape[1] <= PEELING.max_peels


def test_an_empty_stamp_and_an_empty_batch_give_no_sources() -> None:
    images = np.zeros((2, 3, 32, 32))
    result = deblender(PeakCount())(images, variance=np.ones_like(images))
    assert result.n_sources.tolist() == [0, 0]
    assert result.quality.tolist() == ["none", "none"]
    assert np.isnan(result.xy).all()
    assert len(deblender(PeakCount())(np.zeros((0, 3, 32, 32))).n_sources) == 0


def test_stamps_of_a_batch_do_not_touch_each_other() -> None:
    images = np.concatenate([scene((10, 8, 50.0)), scene((10, 8, 90.0), (22, 20, 200.0))])
    together = deblender(PeakCount())(images, variance=np.ones_like(images))
    alone = deblender(PeakCount())(images[:1], variance=np.ones_like(images[:1]))
    assert together.n_sources.tolist() == [1, 2]
    np.testing.assert_allclose(together.models[0, 0], alone.models[0, 0])
    assert not together.models[0, 1].any()


def test_other_bands_get_the_nearest_band_as_template() -> None:
    three = scene((10, 8, 50.0), (22, 20, 200.0))
    z = 0.25 * blob(22, 20, 200.0) + 2 * blob(10, 8, 50.0)
    images = np.concatenate([three, z.numpy()[None, None]], axis=1)
    result = deblender(PeakCount())(
        images, variance=np.ones_like(images), bands=("g", "r", "i", "z")
    )
    ratio = result.models[0, :2, 3].sum(axis=(1, 2)) / result.models[0, :2, 2].sum(axis=(1, 2))
    np.testing.assert_allclose(ratio, [0.25, 2.0], rtol=0.02)


def test_a_missing_band_gets_no_model_and_does_not_spoil_the_others() -> None:
    images = scene((10, 8, 50.0), (22, 20, 200.0))
    images[0, 0] = np.nan
    result = deblender(PeakCount())(images, variance=np.ones_like(images))
    assert result.n_sources.tolist() == [2]
    assert not result.models[:, :, 0].any()
    np.testing.assert_allclose(result.models[0, 0, 1], blob(22, 20, 200.0), atol=1.5)


@pytest.mark.parametrize("bands", [("i",), ("g", "i"), ("g", "r", "i", "z", "y")])
def test_any_bands_may_be_given(bands: tuple[str, ...]) -> None:
    one = scene((10, 8, 50.0), (22, 20, 200.0))[:, :1]
    images = np.repeat(one, len(bands), axis=1)
    result = deblender(PeakCount())(images, variance=np.ones_like(images), bands=bands)
    assert result.n_sources.tolist() == [2]
    for band in range(len(bands)):
        np.testing.assert_allclose(result.models[0, 0, band], blob(22, 20, 200.0), atol=2)


class Recording(Rdn):
    """Sees the scaled image and its context, which it keeps, and draws the brightest blob."""

    def __init__(self, bands: int) -> None:
        super().__init__(RdnConfig(3 * bands, bands, 1, 1, 1, 1, context=True))
        self.context = torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        image, self.context = x.tensor_split([self.config.out_channels], dim=1)
        return BrightestBlob()(image)


def multiband() -> RdnDeblender:
    return replace(deblender(PeakCount()), network=Recording(6), bands=tuple("ugrizy"))


@pytest.mark.parametrize("bands", ["i", "gi", "grizy", "ugrizy", "gw"])
def test_a_network_with_context_is_told_which_bands_are_there(bands: str) -> None:
    rdn = multiband()
    one = scene((10, 8, 50.0), (22, 20, 200.0))[:, :1]
    images = np.repeat(one, len(bands), axis=1)
    result = rdn(images, variance=np.ones_like(images), bands=tuple(bands))
    assert result.n_sources.tolist() == [2]
    for band in range(len(bands)):
        np.testing.assert_allclose(result.models[0, 0, band], blob(22, 20, 200.0), atol=2)
    # What it does not know, w, stands for the bands nearest to it, and is the first of them.
    own = [band in bands or (band == "r" and "w" in bands) for band in "ugrizy"]
    assert rdn.network.context[0, :6].flatten(1).any(1).tolist() == [not known for known in own]


def test_unnamed_bands_are_the_likeliest() -> None:
    rdn = multiband()
    images = np.repeat(scene((10, 8, 50.0))[:, :1], 3, axis=1)
    rdn(images, variance=np.ones_like(images))
    missing = rdn.network.context[0, :6].flatten(1).any(1)
    assert missing.tolist() == [True, False, False, False, True, True]


def test_a_network_with_context_is_shown_masks_and_the_psfs_of_what_it_sees() -> None:
    rdn = multiband()
    images = scene((10, 8, 50.0))
    mask = np.zeros(images.shape, dtype=bool)
    mask[0, 1, 20:22, 25] = True
    mask[0, 2] = True
    axis = np.arange(31) - 15
    sigma = np.array([1.5, 2.0, 3.0])[:, None, None]
    psf = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * sigma**2))
    rdn(images, variance=np.ones_like(images), mask=mask, psf=psf, bands=("g", "r", "i"))
    unobserved, width = rdn.network.context[0].split(6)
    assert unobserved[1].sum() == 0
    assert np.argwhere(unobserved[2].numpy()).tolist() == [[20, 25], [21, 25]]
    assert unobserved[3].all()
    # u is replaced by g, all of i by r, and z and y, which are not given, by i and hence by r too.
    expected = np.log(np.array([1.5, 1.5, 2.0, 2.0, 2.0, 2.0]) / USUAL_WIDTH)
    np.testing.assert_allclose(width[:, 0, 0], expected, atol=0.01)


def test_a_counter_of_bands_that_the_deblender_lacks_is_refused(tmp_path: Path) -> None:
    network, card = load_weights(shipped_path("counter"))
    other = save_weights(str(tmp_path), "counter", network, replace(card, bands=("r", "i", "z")))
    with pytest.raises(ConfigError, match="counter needs r, i, z"):
        RdnDeblender.load("cpu", counter=other)


@pytest.fixture(scope="module")
def blends() -> dict[str, np.ndarray]:
    return wang2022_blends(24, seed=20)


def test_shipped_weights_separate_fresh_blends(blends: dict[str, np.ndarray]) -> None:
    result = raydeblend.load("rdn")(blends["blend2"], variance=np.ones_like(blends["blend2"]))
    distance = np.linalg.norm(result.xy[:, :1] - blends["xy2"], axis=2).min(axis=1)
    assert np.median(distance) < 0.5
    flux, true = result.models[:, 0].sum(axis=(1, 2, 3)), blends["isolated2"].sum(axis=(2, 3, 4))
    nearest = np.abs(flux[:, None] / true - 1).min(axis=1)
    assert np.median(nearest) < 0.1


def test_shipped_weights_do_not_care_about_unit_batch_or_odd_sizes(
    blends: dict[str, np.ndarray],
) -> None:
    rdn = raydeblend.load("rdn")
    images = blends["blend2"][:3, :, :79, :75]
    plain = rdn(images, variance=np.ones_like(images))
    scaled = rdn(images * 1024, variance=np.full_like(images, 1024.0**2))
    alone = rdn(images[:1], variance=np.ones_like(images[:1]))
    assert plain.models.shape[-2:] == (79, 75)
    np.testing.assert_array_equal(plain.n_sources, scaled.n_sources)
    np.testing.assert_allclose(plain.models * 1024, scaled.models, rtol=1e-5, atol=1e-3)
    k = int(alone.n_sources[0])
    np.testing.assert_allclose(plain.models[0, :k], alone.models[0, :k], rtol=0.05, atol=0.1)


def test_the_shipped_weights_of_any_bands_separate_a_pair_in_one_of_them() -> None:
    """In i alone, with a PSF and pixels of HSC and a masked row through one of the two."""
    xy, flux, size = [(26.0, 32.0), (38.0, 31.0)], [900.0, 500.0], 64
    psf = galsim.Moffat(3.0, fwhm=0.65)
    total = galsim.ImageD(size, size, scale=0.168)
    for (x, y), total_flux in zip(xy, flux, strict=True):
        galaxy = galsim.Exponential(half_light_radius=0.35, flux=total_flux)
        center = galsim.PositionD(x + 1, y + 1)
        total += galsim.Convolve(galaxy, psf).drawImage(
            image=total.copy(), center=center, method="no_pixel"
        )
    image = total.array + np.random.default_rng(1).standard_normal((size, size))
    mask = np.zeros((1, 1, size, size), bool)
    mask[..., 29, 33:44] = True
    image[mask[0, 0]] = np.nan
    stamp = psf.drawImage(nx=41, ny=41, scale=0.168, method="no_pixel").array
    found = raydeblend.load("rdn", weights="rdn-multiband")(
        image[None, None],
        np.ones((1, 1, size, size)),
        mask=mask,
        psf=stamp[None],
        bands=("i",),
        pixel_scale=0.168,
    )
    assert found.n_sources[0] == 2
    order = np.argsort(found.xy[0][:2, 0])
    assert found.xy[0][order] == pytest.approx(np.array(xy), abs=0.7)
    assert found.models[0][order].sum(axis=(1, 2, 3)) == pytest.approx(flux, rel=0.12)
