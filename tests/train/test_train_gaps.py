"""Bands and pixels that are left out of training images, against what was asked for."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from raydeblend.train.gaps import draw_masks, draw_present, fill_masked, stand_ins


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_all_or_a_part_of_the_available_bands_is_present() -> None:
    available = torch.tensor([[False, True, True, True]]).expand(4000, -1)
    assert torch.equal(draw_present(available, 0.0, generator()), available)
    present = draw_present(available, 1.0, generator())
    assert not present[:, 0].any()
    count = torch.bincount(present.sum(1), minlength=4) / 4000
    # One, two or three of them, each as often.
    np.testing.assert_allclose(count, [0, 1 / 3, 1 / 3, 1 / 3], atol=0.03)
    np.testing.assert_allclose(present[:, 1:].float().mean(0), 2 / 3, atol=0.03)


def test_the_nearest_band_stands_in_for_one_that_is_missing() -> None:
    present = torch.tensor([[False, True, False, True, False]]).expand(200, -1)
    bands = stand_ins(present, generator())
    assert bands[:, [0, 1, 3, 4]].unique(dim=0).tolist() == [[1, 1, 3, 3]]
    # Two are as near, and either is taken.
    assert set(bands[:, 2].tolist()) == {1, 3}


def test_masks_are_in_a_part_of_the_stamps_in_all_bands_or_in_one() -> None:
    masks = draw_masks(torch.zeros(2000, 3, 32, 32), 0.25, generator())
    masked = masks.flatten(1).any(1)
    assert abs(masked.float().mean() - 0.25) < 0.03
    bands = masks.flatten(2).any(2).sum(1)[masked]
    assert set(bands.tolist()) == {1, 3}
    assert abs((bands == 3).float().mean() - 0.5) < 0.1


def test_masked_pixels_hold_the_mean_of_those_near_them() -> None:
    image = torch.randn(2, 1, 24, 24, generator=generator())
    mask = torch.zeros(image.shape, dtype=torch.bool)
    mask[1, 0, 10:13, 8:11] = True
    filled = fill_masked(image, mask)
    assert torch.equal(filled[~mask], image[~mask])
    usable = (~mask[1, 0]).float().numpy()
    near = gaussian_filter(usable, 1.5, truncate=2.5)
    mean = gaussian_filter(image[1, 0].numpy() * usable, 1.5, truncate=2.5) / near
    np.testing.assert_allclose(filled[mask], mean[mask[1, 0].numpy()], atol=1e-5)
