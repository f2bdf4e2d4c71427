from itertools import pairwise

import numpy as np
import pytest
import sep

from raydeblend.deblend.sep import SepDeblender, _kernel, classical_models


def gaussian(size, x, y, flux, sigma=2.0):
    yy, xx = np.mgrid[:size, :size]
    profile = np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / (2 * sigma**2))
    return flux * profile / (2 * np.pi * sigma**2)


@pytest.fixture
def pair():
    """Two well separated sources in three bands, with noise of 1."""
    one, two = gaussian(64, 20, 30, 2000), gaussian(64, 42, 33, 900)
    noise = np.random.default_rng(0).normal(size=(3, 64, 64))
    return (np.array([1, 2, 3])[:, None, None] * (one + two) + noise).astype(np.float32)


def test_kernel_is_the_published_one():
    kernel = _kernel() / _kernel().max()
    # Ratios to the middle of sxdes's table, "7x7 gaussian of FWHM 3.0 pixels".
    published = np.array([0.068707, 0.296069, 0.710525]) / 0.951108
    np.testing.assert_allclose(kernel[3, :3], published, rtol=0.02)
    assert kernel.shape == (7, 7)


def test_finds_both_brightest_first_with_their_pixels(pair):
    models, xy = classical_models(pair, np.ones_like(pair))
    assert models.shape[0] >= 2
    np.testing.assert_allclose(xy[:2], [[20, 30], [42, 33]], atol=0.3)
    assert all(first >= second for first, second in pairwise(models.sum(axis=(1, 2, 3))))
    np.testing.assert_allclose(models[:2].sum(axis=(2, 3))[:, 1], [4000, 1800], rtol=0.1)


def test_a_pixel_belongs_to_one_model_and_keeps_its_value(pair):
    models, _ = classical_models(pair, np.ones_like(pair))
    owners = (models != 0).any(axis=1).sum(axis=0)
    assert owners.max() == 1
    inside = owners == 1
    np.testing.assert_array_equal(models.sum(axis=0)[:, inside], pair[:, inside])


def test_models_follow_the_unit(pair):
    models, xy = classical_models(pair, np.ones_like(pair))
    scaled, scaled_xy = classical_models(pair * 1e-3, np.full_like(pair, 1e-6))
    np.testing.assert_allclose(scaled, models * 1e-3, rtol=1e-5)
    np.testing.assert_allclose(scaled_xy, xy, atol=1e-3)


def test_without_variance_the_noise_is_estimated(pair):
    models, xy = classical_models(pair)
    np.testing.assert_allclose(xy[:2], [[20, 30], [42, 33]], atol=0.3)
    assert len(models) == len(xy) <= 4


def test_masked_and_non_finite_pixels_are_not_used(pair):
    mask = np.zeros((64, 64), dtype=bool)
    mask[:, 32:] = True
    pair[:, 33, 42] = np.nan
    models, xy = classical_models(pair, np.ones_like(pair), mask)
    assert xy[:, 0].max() < 32
    assert not models[..., 32:].any()


def test_a_missing_band_does_not_spoil_the_others(pair):
    mask = np.zeros(pair.shape, dtype=bool)
    mask[0] = True
    models, xy = classical_models(pair, np.ones_like(pair), mask)
    np.testing.assert_allclose(xy[:2], [[20, 30], [42, 33]], atol=0.3)
    assert not models[:, 0].any()


def test_more_objects_than_sep_allows_by_default_are_no_failure():
    # Every pixel is above the threshold, with more than 1024 branches.
    image = 5 + np.random.default_rng(0).normal(size=(1, 256, 256)).astype(np.float32)
    sep.set_sub_object_limit(1024)
    models, _ = classical_models(image, np.ones_like(image))
    assert len(models) >= 1


def test_batch_is_padded_with_zeros_and_nan(pair):
    images = np.stack([pair, np.zeros_like(pair)])
    result = SepDeblender()(images, variance=np.ones_like(images))
    k = int(result.n_sources[0])
    assert result.n_sources.tolist() == [k, 0]
    assert result.models.shape == (2, k, 3, 64, 64)
    assert not result.models[1].any()
    assert np.isnan(result.xy[1]).all()
    assert result.quality.tolist() == ["medium", "none"]
