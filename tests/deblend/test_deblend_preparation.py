import numpy as np
import pytest

from raydeblend.deblend.preparation import prepare
from raydeblend.errors import ConfigError


def gaussian(y0: float, x0: float, sigma: float = 2.0, size: int = 32) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (2 * sigma**2))


def test_noise_is_estimated_where_no_variance_is_given() -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(0, [[[[3.0]], [[0.5]]]], (4, 2, 64, 64)) + 100 * gaussian(30, 30, 3, 64)
    stamps = prepare(images)
    np.testing.assert_allclose(stamps.sigma[:, :, 0, 0], [[3.0, 0.5]] * 4, rtol=0.15)


def test_variance_sets_the_unit_and_the_weights() -> None:
    images = np.full((1, 1, 24, 24), 6.0)
    variance = np.full_like(images, 4.0)
    variance[0, 0, 0, 0] = 16.0
    stamps = prepare(images, variance)
    np.testing.assert_allclose(stamps.image, 3.0)
    assert stamps.weight[0, 0, 0, 0] == pytest.approx(0.25)


def test_masked_and_nan_pixels_are_filled_from_their_neighbors() -> None:
    truth = 50 * gaussian(15.3, 16.1, 4) + 5
    images = truth[None, None].copy()
    mask = np.zeros((1, 32, 32), dtype=bool)
    mask[0, 15, 14:17] = True
    images[0, 0, 15, 14:17] = 1e9
    images[0, 0, 20, 20] = np.nan
    stamps = prepare(images, np.ones_like(images), mask)
    filled = stamps.image[0, 0] * stamps.sigma[0, 0, 0, 0]
    assert np.abs(filled - truth)[mask[0]].max() < 0.15 * truth.max()
    assert stamps.weight[0, 0, 15, 15] == 0
    assert stamps.weight[0, 0, 20, 20] == 0


def test_a_band_without_usable_pixels_is_missing() -> None:
    images = np.ones((1, 2, 24, 24))
    images[0, 1] = np.nan
    np.testing.assert_array_equal(prepare(images).missing, [[False, True]])


def test_shapes_that_disagree_are_named() -> None:
    with pytest.raises(ConfigError, match="variance must have shape"):
        prepare(np.ones((1, 3, 24, 24)), np.ones((1, 3, 24, 25)))
    with pytest.raises(ConfigError, match=r"\(n, bands, y, x\)"):
        prepare(np.ones((3, 24, 24)))
