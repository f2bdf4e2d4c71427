"""Corrections of models against Gaussians of known errors."""

import numpy as np
import pytest
from numpy.typing import NDArray

from raydeblend.deblend.peeling.residual_correction import correct_residuals

SIZE = 48
Array = NDArray[np.float32]


def gaussian(flux: float, sigma: float = 3.0, x: float = 24.0, y: float = 24.0) -> Array:
    axis = np.arange(SIZE)
    squared = (axis[:, None] - y) ** 2 + (axis - x) ** 2
    image = flux * np.exp(-squared / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    return np.where(image > 0.01, image, 0).astype(np.float32)


def stamp(*models: Array, seed: int = 1) -> Array:
    """Return three bands of the sum of the models, with noise of 1."""
    total = np.stack([np.sum(models, axis=0)] * 3)
    return (total + np.random.default_rng(seed).normal(size=total.shape)).astype(np.float32)


def three(*models: Array) -> Array:
    return np.stack([np.stack([model] * 3) for model in models])


def adjusted(image: Array, models: Array) -> Array:
    return correct_residuals(image, np.ones_like(image), models, [0, 1, 2])


@pytest.mark.parametrize(
    "wrong",
    [
        gaussian(8500.0),
        gaussian(10000.0, sigma=2.6),
        gaussian(10000.0, sigma=3.4),
        gaussian(10000.0, x=24.3, y=23.8),
    ],
)
def test_a_model_that_pixels_contradict_is_corrected(wrong: Array) -> None:
    truth = gaussian(10000.0)
    image = stamp(truth)
    before = np.sqrt(((three(wrong)[0] - truth) ** 2).sum())
    result = adjusted(image, three(wrong))[0]
    after = np.sqrt(((result - truth) ** 2).sum())
    assert after < before / 4
    assert result.sum(axis=(1, 2)) == pytest.approx(truth.sum(), rel=0.02)


def test_a_right_model_takes_less_of_the_noise_than_free_coefficients() -> None:
    """Nine of them in three bands would take 27 units of χ² on average."""
    truth = gaussian(3000.0)
    gained = []
    for seed in range(8):
        image = stamp(truth, seed=seed)
        result = adjusted(image, three(truth))[0]
        gained.append(((image - truth) ** 2).sum() - ((image - result) ** 2).sum())
    assert 0 <= np.mean(gained) < 9


def test_an_error_of_flux_is_corrected_as_bayes_theorem_has_it() -> None:
    """One band, hence no colors; of all shapes only the amplitude is wrong, by a tenth.

    The posterior mean under a prior of width s shrinks an amplitude that the pixels know to 1/S by
    1 / (1 + 1 / (s S)²), here less than a hundredth.
    """
    truth = gaussian(20000.0)
    image = truth[None]
    result = correct_residuals(image, np.ones_like(image), 0.9 * image[None], [0])
    assert result.sum() == pytest.approx(truth.sum(), rel=0.01)


def test_faint_models_stay_and_none_becomes_negative() -> None:
    faint = three(gaussian(100.0))
    image = stamp(gaussian(300.0))
    np.testing.assert_array_equal(adjusted(image, faint), faint)
    absent = adjusted(stamp(gaussian(2.0)), three(gaussian(5000.0)))
    assert absent.min() == 0
    assert absent.sum() < 0.1 * 3 * 5000


def test_of_two_neighbors_each_is_corrected_for_itself() -> None:
    truths = gaussian(12000.0, x=20.0), gaussian(8000.0, x=29.0)
    wrong = three(0.9 * truths[0], 1.1 * truths[1])
    result = adjusted(stamp(*truths), wrong)
    fluxes = result.sum(axis=(2, 3)).mean(axis=1)
    assert fluxes == pytest.approx([truth.sum() for truth in truths], rel=0.03)


def test_a_color_within_a_galaxy_is_taken_from_the_other_bands() -> None:
    """The third band's model has the second's shape, and the galaxy there that of the first."""
    narrow, broad = gaussian(10000.0, sigma=2.5), gaussian(10000.0, sigma=3.5)
    truth = np.stack([narrow, broad, narrow])
    rng = np.random.default_rng(2)
    image = (truth + rng.normal(size=truth.shape)).astype(np.float32)
    model = np.stack([narrow, broad, broad])
    result = correct_residuals(image, np.ones_like(image), model[None], [0, 1])[0, 2]
    assert ((result - narrow) ** 2).sum() < ((broad - narrow) ** 2).sum() / 50


def test_pixels_without_weight_and_no_models_at_all() -> None:
    truth = gaussian(10000.0)
    image = stamp(truth)
    weight = np.ones_like(image)
    image[:, :, 30:], weight[:, :, 30:] = 1e6, 0
    result = correct_residuals(image, weight, three(0.9 * truth), [0, 1, 2])
    assert result.sum(axis=(2, 3)) == pytest.approx(np.full((1, 3), truth.sum()), rel=0.05)
    assert adjusted(image, np.zeros((0, 3, SIZE, SIZE), np.float32)).shape == (0, 3, SIZE, SIZE)


@pytest.mark.parametrize("bands", [[0], [0, 0, 1], [0, 1, 1], [0, 1, 2]])
def test_any_number_of_bands_may_be_known(bands: list[int]) -> None:
    truth = gaussian(10000.0)
    image = stamp(truth)
    result = correct_residuals(image, np.ones_like(image), three(0.9 * truth), bands)
    assert result.sum(axis=(2, 3)) == pytest.approx(np.full((1, 3), truth.sum()), rel=0.02)


def test_a_model_of_one_pixel_and_a_stamp_of_one_row_are_no_matter() -> None:
    spike = np.zeros((1, 3, SIZE, SIZE), np.float32)
    spike[0, :, 5, 5] = 100
    image = spike[0] * 1.1
    assert adjusted(image, spike)[0, :, 5, 5] == pytest.approx(110, rel=0.01)
    row = spike[:, :, 5:6]
    assert adjusted(row[0] * 1.1, row)[0, :, 0, 5] == pytest.approx(110, rel=0.01)
