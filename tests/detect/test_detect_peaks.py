import numpy as np
import pytest
from skimage.morphology import h_maxima

from raydeblend.detect.peaks import find_peaks, refine_peaks, sharpened


def hills(size: int, *parameters: tuple[float, float, float, float]) -> np.ndarray:
    """Sum of Gaussians (x, y, height, sigma)."""
    y, x = np.indices((size, size))
    return sum(h * np.exp(-0.5 * ((x - a) ** 2 + (y - b) ** 2) / s**2) for a, b, h, s in parameters)


@pytest.mark.parametrize("x", [20.0, 20.13, 20.37, 20.49])
def test_top_of_a_gaussian_is_found_exactly(x):
    image = hills(41, (x, 21.3, 50, 2.5))
    np.testing.assert_allclose(refine_peaks(image, np.array([[21, 20]])), [[x, 21.3]], atol=1e-6)


def test_elongated_tilted_gaussian():
    y, x = np.indices((41, 41)) - np.array([20.2, 19.6])[:, None, None]
    image = np.exp(-0.5 * (x**2 / 9 + y**2 / 4 + 0.15 * x * y))
    np.testing.assert_allclose(refine_peaks(image, np.array([[20, 20]])), [[19.6, 20.2]], atol=1e-6)


def test_positions_scatter_by_the_cramer_rao_bound():
    # σ_x = σ_psf √2 · σ_S / S for the matched filter's peak S (King 1983, PASP 95, 163).
    from scipy.ndimage import gaussian_filter

    sigma, snr, rng = 1.8, 30.0, np.random.default_rng(0)
    errors = []
    for _ in range(200):
        field = rng.normal(0, 1, (41, 41))
        field += hills(41, (20.2, 19.9, snr / (np.sqrt(np.pi) * 2 * sigma) * 2, sigma))
        image = gaussian_filter(field, sigma) * 2 * np.sqrt(np.pi) * sigma
        errors.append(refine_peaks(image, np.array([[20, 20]]))[0] - [20.2, 19.9])
    assert np.abs(np.mean(errors, 0)).max() < 0.03
    assert np.std(errors) == pytest.approx(np.sqrt(2) * sigma / snr, rel=0.15)


def test_nothing_to_refine():
    image = hills(9, (0, 4, 5, 2))
    np.testing.assert_array_equal(refine_peaks(image, np.array([[4, 0]])), [[0, 4]])
    np.testing.assert_array_equal(refine_peaks(np.ones((9, 9)), np.array([[4, 4]])), [[4, 4]])
    np.testing.assert_array_equal(refine_peaks(np.ones((1, 1)), np.array([[0, 0]])), [[0, 0]])
    assert refine_peaks(image, np.zeros((0, 2), dtype=int)).shape == (0, 2)


def test_prominence_of_two_hills():
    image = hills(61, (20, 30, 30, 3), (40, 30, 20, 3))
    saddle = image[30, 20:41].min()
    lower = image[30, 40]
    everywhere = np.ones_like(image, dtype=bool)
    just = float(lower - saddle)
    assert find_peaks(image, everywhere, just - 1e-3, 0).tolist() == [[30, 20], [30, 40]]
    assert find_peaks(image, everywhere, just + 1e-3, 0).tolist() == [[30, 20]]
    assert find_peaks(image, everywhere, 0.1, just / lower + 0.01).tolist() == [[30, 20]]


def test_peaks_of_noise_are_the_h_maxima_of_scikit_image():
    from scipy.ndimage import gaussian_filter

    image = gaussian_filter(np.random.default_rng(4).normal(size=(90, 90)), 2) * 7 + 10
    peaks = find_peaks(image, np.ones_like(image, dtype=bool), 1.5, 0)
    expected = h_maxima(image, 1.5)
    # A peak whose prominence is exactly h does not occur in noise.
    assert len(peaks) == len(np.unique(_labels(expected))) - 1
    assert all(expected[y, x] for y, x in peaks)


def _labels(mask: np.ndarray) -> np.ndarray:
    from scipy.ndimage import label

    return label(mask, np.ones((3, 3)))[0]


def test_plateau_is_one_peak():
    image = np.zeros((9, 9))
    image[3:6, 3:6] = 5
    assert len(find_peaks(image, image > 1, 1, 0)) == 1


def test_separate_footprints_each_keep_their_highest_peak():
    image = hills(61, (15, 30, 30, 3), (45, 30, 6, 3))
    assert len(find_peaks(image, image > 3, 1e3, 0)) == 2
    assert find_peaks(image, image > 3, 10, 0).tolist() == [[30, 15], [30, 45]]


def test_source_on_a_slope_is_seen_after_sharpening():
    image = hills(101, (50, 50, 300, 12), (66, 50, 20, 2.5))
    detected = image > 3
    assert len(find_peaks(image, detected, 4, 0.05)) == 1
    found = find_peaks(sharpened(image, 3.6), detected, 4, 0.05)
    assert found.tolist()[0] == [50, 50]
    assert np.hypot(*(found[1] - [50, 66])) <= 1


def test_nothing_detected():
    assert find_peaks(np.ones((5, 5)), np.zeros((5, 5), bool), 1, 0).shape == (0, 2)
