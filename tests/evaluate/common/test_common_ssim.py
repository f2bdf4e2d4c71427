"""Structural similarity from local moments, beside scikit-image's own."""

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from raydeblend.evaluate.common.ssim import local_moments


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    truth = rng.uniform(0, 1, (3, 32, 30))
    return np.clip(truth + rng.normal(0, 0.1, truth.shape), 0, 1), truth


@pytest.mark.parametrize("data_range", [1.0, 2.0])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("gaussian", [False, True])
def test_it_is_that_of_scikit_image(
    pair: tuple[np.ndarray, np.ndarray], gaussian: bool, signed: bool, data_range: float
) -> None:
    options = {"gaussian_weights": True, "sigma": 1.5} if gaussian else {}
    images = [2 * image - 1 for image in pair] if signed else pair
    expected = structural_similarity(
        *images,
        channel_axis=0,
        data_range=data_range,
        use_sample_covariance=not gaussian,
        **options,
    )
    moments = local_moments(*pair, gaussian=gaussian)
    moments = moments.signed() if signed else moments
    got = moments.ssim((0.01 * data_range) ** 2, (0.03 * data_range) ** 2)
    assert got == pytest.approx(expected, rel=1e-9)


def test_constants_of_flat_images_are_known() -> None:
    # Without structure only luminance is left: (2 a b + c) / (a² + b² + c).
    flat = [np.full((1, 16, 16), value) for value in (0.2, 0.4)]
    got = local_moments(*flat).ssim(0.01, 0.03)
    assert got == pytest.approx((2 * 0.08 + 0.01) / (0.04 + 0.16 + 0.01))
