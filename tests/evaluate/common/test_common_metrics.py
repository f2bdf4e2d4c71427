import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from raydeblend.evaluate.common import metrics
from raydeblend.evaluate.common.metrics import (
    amplitudes,
    found_median,
    found_nmad,
    second_moment_size,
    second_moments,
)


def images(seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0, 50, (3, 32, 32))
    return truth + rng.normal(size=truth.shape), truth


def test_psnr_by_hand_and_by_scikit_image():
    flat = np.zeros((2, 8, 8))
    # An error of a tenth of the peak everywhere is 20 dB.
    assert metrics.psnr(flat + 4, flat, 40) == pytest.approx(20)
    model, truth = images()
    expected = peak_signal_noise_ratio(truth / 60, model / 60, data_range=1)
    assert metrics.psnr(model, truth, 60) == pytest.approx(expected)


def test_psnr_of_equal_images_is_infinite():
    _, truth = images()
    assert metrics.psnr(truth, truth, 60) == np.inf


def test_ssim_is_the_mean_over_bands():
    model, truth = images()
    bands = [
        structural_similarity(t / 60, m / 60, data_range=1)
        for t, m in zip(truth, model, strict=True)
    ]
    assert metrics.ssim(model, truth, 60) == pytest.approx(np.mean(bands))
    assert metrics.ssim(truth, truth, 60) == pytest.approx(1)


def test_flux_sums_float16_without_overflow():
    image = np.full((2, 3, 80, 80), 100, dtype=np.float16)
    np.testing.assert_array_equal(metrics.flux(image), 100 * 3 * 80 * 80)


def test_flux_statistics_by_hand():
    error = np.array([-0.1, 0.0, 0.1, 0.4, 3.0, np.nan])
    assert metrics.flux_bias(error) == pytest.approx(0.1)
    # Deviations from 0.1: 0.2 0.1 0 0.3 2.9, median 0.2.
    assert metrics.flux_nmad(error) == pytest.approx(1.4826 * 0.2)
    # The error of 3 and the missing source count as 1.
    assert metrics.capped_mean(error, axis=0) == pytest.approx((0.1 + 0 + 0.1 + 0.4 + 1 + 1) / 6)


def test_flux_statistics_of_none_found():
    error = np.full(3, np.nan)
    assert np.isnan(metrics.flux_bias(error))
    assert np.isnan(metrics.flux_nmad(error))
    assert metrics.capped_mean(error, axis=0) == 1


def test_found_medians_are_those_of_numpy():
    rng = np.random.default_rng(0)
    for n in (1, 4, 5, 30):
        error = rng.normal(size=(7, n))
        error[rng.random(error.shape) < 0.3] = np.nan
        error[:, 0] = 1.0
        np.testing.assert_allclose(found_median(error, axis=1), np.nanmedian(error, axis=1))
        middle = np.nanmedian(error, axis=1, keepdims=True)
        expected = 1.4826 * np.nanmedian(np.abs(error - middle), axis=1)
        np.testing.assert_allclose(found_nmad(error, axis=1), expected)
    assert np.isnan(found_median(np.full((2, 3), np.nan), axis=1)).all()
    assert np.isnan(found_median(np.empty((2, 0)), axis=1)).all()
    assert np.isnan(metrics.flux_bias(np.empty(0)))


def test_second_moments_are_those_of_a_tilted_gaussian():
    covariance = np.array([[6.0, 1.5], [1.5, 3.0]])
    y, x = np.indices((60, 70)).astype(float)
    offset = np.stack([x - 33.3, y - 28.1])
    light = np.exp(-0.5 * np.einsum("iyx,ij,jyx->yx", offset, np.linalg.inv(covariance), offset))
    images = light * np.array([1, 5, 2])[:, None, None]
    moments = second_moments(np.stack([images, np.zeros_like(images)]))
    np.testing.assert_allclose(moments[0], [1.5, 3.0], atol=1e-3)
    assert np.isnan(moments[1]).all()
    # The trace-free part of a covariance has eigenvalues plus and minus half of |mu2|.
    eigen = np.linalg.eigvalsh(covariance)
    assert second_moment_size(moments[0]) == pytest.approx(eigen[1] - eigen[0], abs=1e-3)


def test_amplitudes_say_whose_light_a_model_holds():
    rng = np.random.default_rng(1)
    truths = rng.random((3, 2, 9, 9))
    shares = np.array([[1.0, 0, 0.7], [0, 0.2, 0]])
    models = np.einsum("km,mbyx->kbyx", shares, truths)
    np.testing.assert_allclose(amplitudes(models, truths), shares, atol=1e-6)
    # Two galaxies that are the same cannot be told apart.
    twins = truths[[0, 0]]
    np.testing.assert_allclose(amplitudes(truths[:1] * 2, twins), [[1, 1]], atol=1e-6)
