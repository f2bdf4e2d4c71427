"""Peaks that the first look missed, and what is no galaxy."""

import numpy as np
from scipy.stats import norm

from raydeblend.deblend.vae.config import VAE
from raydeblend.deblend.vae.peaks import detect, detect_missed

WIDTH = 1.5
SHAPE = (48, 48)


def galaxy(x: float, y: float, flux: float, width: float = WIDTH) -> np.ndarray:
    axis = np.arange(48)
    return (flux * np.outer(norm.pdf(axis, y, width), norm.pdf(axis, x, width)))[None].astype("f4")


def scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A faint galaxy close to one 20 times brighter; the model of the bright one is right."""
    bright = galaxy(20, 24, 6000, 2.5)
    noise = np.random.default_rng(seed).normal(size=bright.shape)
    return (bright + galaxy(25.6, 24, 300) + noise).astype("f4"), bright


def test_a_galaxy_in_the_wings_of_another_is_seen_when_that_is_gone() -> None:
    image, model = scene()
    weight = np.ones_like(image)
    first = detect(image, weight, WIDTH)
    np.testing.assert_allclose(first, [[20, 24]], atol=0.5)
    missed = detect_missed(image, weight, model, first, WIDTH)
    np.testing.assert_allclose(missed, [[25.6, 24]], atol=1)


def test_what_an_imperfect_model_leaves_is_no_galaxy() -> None:
    image, model = scene()
    weight, alone = np.ones_like(image), image - galaxy(25.6, 24, 300)
    for factor in (0.8, 1.2):
        known = np.array([[20.0, 24.0]], dtype="f4")
        assert len(detect_missed(alone, weight, model * factor, known, WIDTH)) == 0
    middles = np.array([[20.0, 24], [25, 24]])
    # Nor what is left in the middle of a known galaxy, however much.
    assert len(detect_missed(image, weight, 0 * model, middles, WIDTH)) == 0


def test_no_more_sources_than_allowed() -> None:
    image, model = scene()
    known = np.tile(np.array([[2.0, 2.0]], dtype="f4"), (VAE.max_sources, 1))
    assert detect_missed(image, np.ones_like(image), 0 * model, known, WIDTH).shape == (0, 2)
