"""Galaxies of a blend moved together: against least squares and amplitudes known by hand."""

import numpy as np
import pytest
import torch

from raydeblend.deblend.vae.config import VAE
from raydeblend.deblend.vae.latent_fit import LatentBlend, beyond, fit_latents, paste
from raydeblend.networks.vae import Posterior
from raydeblend.networks.vae_tangents import PROBE_SPREAD

SIZE = 32
WIDTH = 2.0
LOG_FLUX = 7.0


def gaussian(shape: tuple[int, int], x: float, y: float) -> np.ndarray:
    rows, columns = np.indices(shape)
    squared = (columns - x) ** 2 + (rows - y) ** 2
    return (np.exp(-squared / (2 * WIDTH**2)) / (2 * np.pi * WIDTH**2)).astype(np.float32)


class _Decoder(torch.nn.Module):
    """One shape; the latent variable is ln flux less 7."""

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = torch.from_numpy(gaussian((SIZE, SIZE), 15.5, 15.5))[None, None]
        return shape.expand(len(z), 1, SIZE, SIZE), LOG_FLUX + z


def stamp(image: np.ndarray, corners: list[tuple[int, int]]) -> LatentBlend:
    return LatentBlend(
        _Decoder(), torch.eye(1), image[None], np.ones_like(image)[None], np.array(corners)
    )


def believed(z: list[float], sigma: float) -> Posterior:
    mean = torch.tensor(z)[:, None]
    return Posterior(mean, torch.full_like(mean, float(np.log(sigma))))


def never(_: np.ndarray) -> Posterior:
    raise AssertionError("a galaxy alone is encoded once")


def test_one_galaxy_moves_as_far_as_prior_and_pixels_have_it() -> None:
    true, start, sigma = 0.1, 0.0, 0.02
    image = np.exp(LOG_FLUX + true) * gaussian((SIZE, SIZE), 15.5, 15.5)
    result = fit_latents(stamp(image, [(0, 0)]), believed([start], sigma), never)
    model = np.exp(LOG_FLUX) * gaussian((SIZE, SIZE), 15.5, 15.5)
    weight = 1 / (1 + (0.05 * model) ** 2)
    # One step of Gauss and Newton: the derivative by ln flux is the model itself.
    step = (weight * model * (image - model)).sum() / ((weight * model**2).sum() + sigma**-2)
    assert 0.02 < step < 0.1
    flux = float(result.model.sum())
    assert flux == pytest.approx(
        np.exp(LOG_FLUX + step) * gaussian((32, 32), 15.5, 15.5).sum(), rel=3e-3
    )
    assert float(result.flux_spread[0, 0]) == pytest.approx(sigma * model.sum(), rel=0.01)


def test_two_galaxies_share_the_light_as_least_squares_has_it() -> None:
    corners = [(0, 0), (0, 5)]
    shapes = np.stack([gaussian((SIZE, 40), 15.5, 15.5), gaussian((SIZE, 40), 20.5, 15.5)])
    flux = np.exp(LOG_FLUX) * np.array([1.1, 0.8])
    image = (flux[:, None, None] * shapes).sum(axis=0)
    image += np.random.default_rng(0).normal(size=image.shape).astype(np.float32)
    seen = []

    def encode(cuts: np.ndarray) -> Posterior:
        seen.append(cuts)
        # As an encoder would: the flux of what is left, and no belief of its own to speak of.
        shape = gaussian((SIZE, SIZE), 15.5, 15.5)
        left = (cuts[:, 0] * shape).sum(axis=(1, 2)) / (shape**2).sum()
        return believed(list(np.log(left) - LOG_FLUX), 10.0)

    result = fit_latents(stamp(image, corners), believed([0.0, 0.0], 0.1), encode)
    columns = shapes.reshape(2, -1)
    weight = 1 / (1 + (0.05 * image.reshape(-1)) ** 2)
    normal = (columns * weight) @ columns.T
    expected = np.linalg.solve(normal, (columns * weight) @ image.reshape(-1))
    inside = shapes.sum(axis=(1, 2))[0]
    np.testing.assert_allclose(result.model.sum(axis=(1, 2, 3)) / inside, expected, rtol=0.02)
    # The second look was at each galaxy alone: nothing of the other is left in its middle.
    assert len(seen) == 1
    np.testing.assert_allclose(seen[0][0, 0, 15, 20:23], flux[0] * shapes[0, 15, 20:23], atol=8)


def test_a_step_is_never_for_the_worse_nor_beyond_bounds() -> None:
    # From so far away the linear step overshoots; the start is kept, or something better.
    image = np.exp(LOG_FLUX + 4) * gaussian((SIZE, SIZE), 15.5, 15.5)
    start = believed([0.0], 100.0)
    result = fit_latents(stamp(image, [(0, 0)]), start, never)
    grown = float(np.log(result.model.sum())) - LOG_FLUX
    assert 0 < grown <= VAE.max_step + 0.01
    assert VAE.max_step > PROBE_SPREAD


def test_a_stamp_without_peaks_has_no_models() -> None:
    image = np.zeros((SIZE, SIZE), np.float32)
    none = Posterior(torch.zeros(0, 1), torch.zeros(0, 1))
    empty = LatentBlend(
        _Decoder(), torch.eye(1), image[None], np.ones_like(image)[None], np.zeros((0, 2), int)
    )
    result = fit_latents(empty, none, never)
    assert result.model.shape == (0, 1, SIZE, SIZE)
    assert result.flux_spread.shape == (0, 1)


def test_light_beyond_the_networks_stamp_may_be_that_of_its_edge() -> None:
    model = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    result = beyond(model, np.array([[2, -1]]), (8, 6))[0, 0]
    expected = np.zeros((8, 6))
    # The stamp covers rows 2 to 5 and columns -1 to 2 (its own 1 to 3).
    expected[:2, :3] = [1, 2, 3]
    expected[:2, 3:] = 3
    expected[6:, :3] = [13, 14, 15]
    expected[6:, 3:] = 15
    expected[2:6, 3:] = np.array([3, 7, 11, 15])[:, None]
    np.testing.assert_array_equal(result, expected)
    assert not beyond(model, np.array([[0, 0]]), (4, 4)).any()


def test_a_model_quite_off_the_stamp_is_not_pasted() -> None:
    model = np.ones((1, 1, 4, 4), np.float32)
    assert not paste(model, np.array([[-9, 20]]), (8, 8)).any()
    assert paste(model, np.array([[-1, 6]]), (8, 8)).sum() == 3 * 2
