"""The loop with a network whose answers are known, and what the loaders refuse."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raydeblend.deblend.peeling.branched import BranchedDeblender, ZooSeparator
from raydeblend.errors import ConfigError
from raydeblend.networks.branched import Branched, BranchedConfig
from raydeblend.networks.scaling import Scaling
from raydeblend.networks.weights import Card, save_weights

BANDS = ("g", "r", "i")


def blob(y: float, x: float, peak: float, size: int = 32) -> Tensor:
    axis = torch.arange(size, dtype=torch.float32)
    return peak * torch.exp(-((axis[:, None] - y) ** 2 + (axis[None] - x) ** 2) / 8)


class TwoBlobs(nn.Module):
    """Knows that every galaxy is the same round blob: takes off the brightest, then the next."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([self._pair(stamp.clone()) for stamp in images])

    def _pair(self, stamp: Tensor) -> Tensor:
        pair = []
        for _ in range(2):
            white = stamp.sum(dim=0)
            y, x = divmod(int(white.argmax()), white.shape[1])
            model = torch.stack(
                [blob(y, x, float(band[y, x]), max(white.shape)) for band in stamp]
            )[:, : white.shape[0], : white.shape[1]]
            pair.append(model)
            stamp = stamp - model
        return torch.stack(pair)


class Endless(nn.Module):
    """Finds two galaxies in anything."""

    def forward(self, images: Tensor) -> Tensor:
        one, two = blob(8, 8, 1.0), blob(24, 24, 1.0)
        return torch.stack([one, two])[None, :, None].expand(len(images), 2, 3, -1, -1)


def deblender(network: nn.Module | None = None, downscale: int = 1) -> BranchedDeblender:
    return BranchedDeblender(
        network or TwoBlobs(), Scaling("maximum"), BANDS, torch.device("cpu"), downscale=downscale
    )


def scene(*blobs: tuple[float, float, float]) -> np.ndarray:
    return np.stack([sum(blob(*b) for b in blobs).numpy()] * 3)[None]


FOUR = ((6, 6, 200.0), (6, 25, 120.0), (25, 6, 60.0), (25, 25, 30.0))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_any_number_of_galaxies_comes_out_brightest_first(k: int) -> None:
    images = scene(*FOUR[:k])
    result = deblender()(images, variance=np.ones_like(images))
    assert result.n_sources.tolist() == [k]
    assert result.quality.tolist() == ["high"]
    np.testing.assert_allclose(result.xy[0], [[x, y] for y, x, _ in FOUR[:k]], atol=0.05)
    for model, position in zip(result.models[0], FOUR[:k], strict=True):
        np.testing.assert_allclose(model[0], blob(*position), atol=1.0)


def test_stamps_of_a_batch_do_not_touch_each_other() -> None:
    images = np.concatenate([scene(*FOUR[:1]), scene(*FOUR[1:]), np.zeros((1, 3, 32, 32))])
    together = deblender()(images, variance=np.ones_like(images))
    assert together.n_sources.tolist() == [1, 3, 0]
    assert together.quality.tolist() == ["high", "high", "none"]
    alone = deblender()(images[1:2], variance=np.ones_like(images[1:2]))
    np.testing.assert_allclose(together.models[1], alone.models[0])
    assert np.isnan(together.xy[2]).all()


def test_an_empty_batch_gives_no_sources() -> None:
    assert len(deblender()(np.zeros((0, 3, 32, 32))).n_sources) == 0


def test_faint_models_are_no_sources() -> None:
    # Peak p in three bands: a matched filter sees p (3 * 4 pi)^1/2 standard deviations.
    for peak, n in ((2.8 / np.sqrt(12 * np.pi), 0), (3.3 / np.sqrt(12 * np.pi), 1)):
        images = scene((16, 16, peak))
        result = deblender()(images, variance=np.ones_like(images))
        assert result.n_sources.tolist() == [n]


def test_no_end_is_low_quality() -> None:
    images = scene(*FOUR[:2])
    result = deblender(Endless())(images, variance=np.ones_like(images))
    assert result.quality.tolist() == ["low"]


def test_every_band_gets_the_amplitude_that_its_own_pixels_ask_for() -> None:
    three = scene(*FOUR[:2])
    z = 0.25 * blob(*FOUR[0]) + 2 * blob(*FOUR[1])
    images = np.concatenate([three, z.numpy()[None, None]], axis=1)
    images[0, 0] *= 0.5
    result = deblender()(images, variance=np.ones_like(images), bands=(*BANDS, "z"))
    flux = result.models[0, :2].sum(axis=(2, 3))
    np.testing.assert_allclose(flux[:, 3] / flux[:, 2], [0.25, 2.0], rtol=0.02)
    np.testing.assert_allclose(flux[:, 0] / flux[:, 2], [0.5, 0.5], rtol=0.02)


def test_a_missing_band_gets_no_model_and_does_not_spoil_the_others() -> None:
    images = scene(*FOUR[:2])
    images[0, 0] = np.nan
    result = deblender()(images, variance=np.ones_like(images))
    assert result.n_sources.tolist() == [2]
    assert not result.models[:, :, 0].any()
    np.testing.assert_allclose(result.models[0, 0, 1], blob(*FOUR[0]), atol=1.0)


def test_the_unit_and_odd_sizes_do_not_matter() -> None:
    images = scene(*FOUR[:2])[..., :31, :29]
    plain = deblender(downscale=4)(images, variance=np.ones_like(images))
    scaled = deblender(downscale=4)(images * 1024, variance=np.full_like(images, 1024.0**2))
    assert plain.models.shape == (1, 2, 3, 31, 29)
    np.testing.assert_allclose(plain.models * 1024, scaled.models, rtol=1e-5, atol=1e-3)


TINY = BranchedConfig(root=1, branch=1, features=4, ends=3, norm=False, head="gate")


def save(folder: Path, blends: str, config: BranchedConfig = TINY) -> str:
    torch.manual_seed(0)
    scaling = Scaling("maximum")
    card = Card("branched", asdict(config), BANDS, (0.2, 0.2), scaling, {"blends": blends})
    return save_weights(str(folder), blends, Branched(config), card)


def test_weights_of_the_other_kind_of_blends_are_refused(tmp_path: Path) -> None:
    survey, zoo = save(tmp_path, "survey"), save(tmp_path, "galaxy_zoo")
    assert BranchedDeblender.load("cpu", survey).bands == BANDS
    with pytest.raises(ConfigError, match="not a branched network for blends of survey"):
        BranchedDeblender.load("cpu", zoo)
    with pytest.raises(ConfigError, match="not a branched network for blends of galaxy_zoo"):
        ZooSeparator.load("cpu", survey)


def test_real_weights_run_on_stamps_of_any_size(tmp_path: Path) -> None:
    config = BranchedConfig(**asdict(TINY) | {"downscale": 4, "head": "linear"})
    loaded = BranchedDeblender.load("cpu", save(tmp_path, "survey", config))
    for size in (24, 33, 256):
        images = np.random.default_rng(0).normal(size=(2, 3, size, size)).astype(np.float32)
        assert loaded(images).models.shape[2:] == (3, size, size)


def test_pictures_are_separated_by_branch_and_stay_in_range(tmp_path: Path) -> None:
    separator = ZooSeparator.load("cpu", save(tmp_path, "galaxy_zoo"))
    blends = np.random.default_rng(1).uniform(size=(70, 3, 80, 80)).astype(np.float32)
    pairs = separator(blends)
    assert pairs.shape == (70, 2, 3, 80, 80)
    assert pairs.min() >= 0
    assert pairs.max() <= 1
    np.testing.assert_allclose(pairs[66], separator(blends[66:67])[0], atol=2e-2)
