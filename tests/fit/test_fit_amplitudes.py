"""Amplitudes of fixed templates."""

import numpy as np

from raydeblend.fit.amplitudes import fit_amplitudes


def gaussian(y0: float, x0: float, sigma: float = 2.0, size: int = 32) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return np.exp(-((y - y0) ** 2 + (x - x0) ** 2) / (2 * sigma**2))


def test_amplitudes_of_overlapping_templates_are_recovered() -> None:
    templates = np.stack([gaussian(14, 14), gaussian(17, 18)])[None, :, None].repeat(2, axis=2)
    true = np.array([[[3.0, 7.0], [2.0, 0.5]]])
    image = (templates * true[..., None, None]).sum(axis=1)
    weight = np.ones_like(image)
    image[0, 0, 5] = 1e6
    weight[0, 0, 5] = 0
    fitted = fit_amplitudes(image, weight, templates)
    np.testing.assert_allclose(fitted, true, rtol=1e-4)


def test_an_empty_template_gets_nothing() -> None:
    templates = np.stack([gaussian(14, 14), np.zeros((32, 32))])[None, :, None]
    fitted = fit_amplitudes(templates[:, 0], np.ones((1, 1, 32, 32)), templates)
    np.testing.assert_allclose(fitted[0, :, 0], [1, 0], atol=1e-5)
