"""What the second pass of the autoencoder is trained on, with a network whose answer is known."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from raydeblend.networks.scaling import Scaling
from raydeblend.train.blends import IsolatedImages
from raydeblend.train.vae_blends import CenteredBatch, CenteredRecipe, compose_centered
from raydeblend.train.vae_passes import moved, second_pass

SIZE = 24
MIDDLE = 12


class _Window(torch.nn.Module):
    """Takes what is within two pixels of the middle for the galaxy."""

    config = SimpleNamespace(latent=2)

    def forward(
        self, channels: torch.Tensor, image: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        model = torch.zeros_like(image)
        window = slice(MIDDLE - 2, MIDDLE + 3)
        model[..., window, window] = image[..., window, window]
        return model, noise, noise, torch.zeros(len(image), 2, 1)


def test_images_move_by_whole_pixels_and_nothing_wraps() -> None:
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 2, 7, 9)))
    shift = torch.tensor([[2, -3], [0, 0], [-8, 1]])
    result = moved(images, shift).numpy()
    expected = np.zeros_like(result)
    expected[0, :, 2:, :-3] = images[0, :, :-2, 3:]
    expected[1] = images[1]
    np.testing.assert_array_equal(result, expected)


def batch_of(shift: tuple[int, int], n: int = 200) -> CenteredBatch:
    """A galaxy of one pixel of 50 in the middle, and one of 900 elsewhere."""
    image = torch.zeros(n, 1, SIZE, SIZE)
    image[:, 0, MIDDLE, MIDDLE] = 50
    target = image.clone()
    image[:, 0, MIDDLE + shift[0], MIDDLE + shift[1]] = 900
    shifts = torch.tensor(shift).expand(n, 1, 2)
    return CenteredBatch(image, target, torch.ones(n, dtype=torch.long), shifts)


def clean(batch: CenteredBatch, part: float, jitter: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return second_pass(_Window(), batch, Scaling("asinh"), part, jitter, generator).image


@pytest.mark.parametrize("jitter", [0, 1])
def test_the_model_of_a_neighbor_is_taken_off_where_it_is(jitter: int) -> None:
    batch = batch_of((-6, 8))
    before = batch.image.clone()
    torch.testing.assert_close(clean(batch, 1.0, jitter), batch.target, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(batch.image, before, rtol=0, atol=0)


def test_a_part_of_the_neighbors_and_none_that_is_not_there() -> None:
    batch = batch_of((5, -5), n=1000)
    left = (clean(batch, 0.3).amax(dim=(1, 2, 3)) > 100).float().mean()
    assert float(left) == pytest.approx(0.7, abs=4 * (0.21 / 1000) ** 0.5)
    alone = replace(batch, n_neighbors=torch.zeros(1000, dtype=torch.long))
    torch.testing.assert_close(clean(alone, 1.0), batch.image, rtol=0, atol=0)


def test_pixels_beyond_the_edge_of_a_stamp_stay_empty() -> None:
    batch = batch_of((-6, 0))
    batch.image[..., : MIDDLE - 6, :] = 0
    assert not clean(batch, 1.0)[..., : MIDDLE - 6, :].any()


def test_the_shifts_of_a_batch_are_where_its_neighbors_are() -> None:
    point = torch.zeros(4, 1, 48, 48, dtype=torch.float16)
    point[:, 0, 24, 24] = 3000
    sky, width = torch.full((1, 1), 1e4), torch.full((1, 1), 1.5)
    isolated = IsolatedImages(point, torch.tensor([0]), torch.tensor([4]), sky, width)
    recipe = CenteredRecipe(stamp=40, annulus=(6.0, 12.0))
    batch = compose_centered(isolated, 50, recipe, torch.Generator().manual_seed(2))
    other = (batch.image - batch.target).flatten(1).argmax(dim=1)
    own = batch.target.flatten(1).argmax(dim=1)
    place = torch.stack([other // 40 - own // 40, other % 40 - own % 40], dim=1)
    # Flips move a galaxy by up to one pixel within its own image.
    assert int((place - batch.shifts[:, 0]).abs().max()) <= 1
