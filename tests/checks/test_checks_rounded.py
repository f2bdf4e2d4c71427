"""Rounded images have pixels that are exactly 0; dead columns have too, and only these are told."""

import numpy as np
import pytest

from raydeblend.checks.config import PixelConfig
from raydeblend.checks.pixels import _dead

SHAPE = (300, 300)


def noise() -> np.ndarray:
    return np.random.default_rng(3).normal(0, 1, SHAPE)


def rounded() -> np.ndarray:
    """Noise in steps of a sixteenth of it, of another size in each row, as GZIP or RICE have it."""
    step = np.random.default_rng(4).uniform(0.05, 0.07, (SHAPE[0], 1))
    return (np.round(noise() / step) * step).astype(np.float32)


@pytest.mark.parametrize("image", [noise(), rounded(), np.round(3 * noise())])
def test_zeros_of_rounding_are_none(image: np.ndarray) -> None:
    assert _dead(image * 57.5, np.ones(SHAPE, bool), PixelConfig()) < 1e-4


@pytest.mark.parametrize("image", [noise(), rounded()])
def test_dead_columns_are_told(image: np.ndarray) -> None:
    image[:, 40:46] = 0
    # Six columns of 300 are 2 %; the rounded image leaves a little to chance.
    assert _dead(image, np.ones(SHAPE, bool), PixelConfig()) == pytest.approx(0.02, abs=0.004)


def test_masked_pixels_do_not_count() -> None:
    image, seen = noise(), np.ones(SHAPE, bool)
    image[:, 40:46], seen[:, 40:46] = 0, False
    assert _dead(image, seen, PixelConfig()) == 0
