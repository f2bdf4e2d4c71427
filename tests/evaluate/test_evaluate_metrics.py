import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from raydeblend.evaluate import metrics


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
    assert metrics.flux_mape(error) == pytest.approx((0.1 + 0 + 0.1 + 0.4 + 1 + 1) / 6)
    assert metrics.found_fraction(error) == pytest.approx(5 / 6)


def test_flux_statistics_of_none_found():
    error = np.full(3, np.nan)
    assert np.isnan(metrics.flux_bias(error))
    assert np.isnan(metrics.flux_nmad(error))
    assert metrics.flux_mape(error) == 1
    assert metrics.found_fraction(error) == 0
