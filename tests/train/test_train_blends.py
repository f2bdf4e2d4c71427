from dataclasses import replace

import numpy as np
import torch

from raydeblend.train.blends import MAX_SOURCES, BlendRecipe, IsolatedImages, compose


def isolated(peaks: list[float], sky_sigma: float = 100.0, size: int = 48) -> IsolatedImages:
    """Round Gaussians of the given peaks; two groups, the second ten times as bright."""
    axis = torch.arange(size) - (size - 1) / 2
    shape = torch.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / 8)
    images = torch.stack([shape * peak for peak in peaks])[:, None].repeat(1, 2, 1, 1)
    return IsolatedImages(
        torch.cat([images, images * 10]).half(),
        torch.tensor([0, len(peaks)]),
        torch.tensor([len(peaks)] * 2),
        torch.full((2, 2), sky_sigma),
        torch.full((2, 2), 2.0),
    )


def draw(recipe: BlendRecipe, n: int = 64, seed: int = 0, sky_sigma: float = 100.0):
    generator = torch.Generator().manual_seed(seed)
    return compose(isolated([10.0, 20.0, 30.0], sky_sigma), n, recipe, generator)


QUIET = BlendRecipe(stamp=32, max_shift=6, brighten=0.0, noiseless=1.0)


def test_a_noiseless_blend_is_the_sum_of_its_sources_brightest_first() -> None:
    batch = draw(QUIET)
    torch.testing.assert_close(batch.blend, batch.sources.sum(dim=1))
    flux = batch.sources.sum(dim=(2, 3, 4))
    assert (flux.diff(dim=1) <= 1e-3).all()
    assert ((flux > 0).sum(dim=1) == batch.n_sources).all()


def test_sources_of_one_blend_come_from_one_group() -> None:
    batch = draw(BlendRecipe(32, 6, (0, 0, 0, 0, 1), 0.0, 1.0))
    peaks = batch.sources.amax(dim=(2, 3, 4))
    bright = peaks > 60
    assert (bright.all(dim=1) | ~bright.any(dim=1)).all()
    assert 0 < bright.all(dim=1).sum() < len(bright)


def test_noise_has_the_variance_of_sky_and_source() -> None:
    recipe = BlendRecipe(32, 0, (0, 1, 0, 0, 0), 0.0, 0.0)
    batch = draw(recipe, n=3000, sky_sigma=50.0)
    noise, scene = batch.blend - batch.sources.sum(dim=1), batch.sources.sum(dim=1)
    bright, dark = scene > 100, scene < 0.01
    expected = 1 + scene[bright].mean() / 50
    np.testing.assert_allclose(noise[bright].var(), expected, rtol=0.05)
    np.testing.assert_allclose(noise[dark].var(), 1, rtol=0.01)


def test_the_number_of_galaxies_follows_the_recipe() -> None:
    recipe = BlendRecipe(32, 6, (0.25, 0.0, 0.75, 0.0, 0.0), 0.0, 1.0)
    counts = torch.bincount(draw(recipe, n=4000).n_sources, minlength=MAX_SOURCES + 1) / 4000
    np.testing.assert_allclose(counts, [0.25, 0, 0.75, 0, 0], atol=0.03)


def test_shifts_stay_within_the_limit_and_the_flux_is_kept() -> None:
    recipe = BlendRecipe(44, 6, (0, 1, 0, 0, 0), 0.0, 1.0)
    batch = draw(recipe, n=400)
    axis = torch.arange(44) - 43 / 2
    image = batch.blend[:, 0]
    x = (image * axis).sum(dim=(1, 2)) / image.sum(dim=(1, 2))
    y = (image * axis[:, None]).sum(dim=(1, 2)) / image.sum(dim=(1, 2))
    for position in (x, y):
        assert position.abs().max() < 6.6
        assert position.max() > 5
        assert position.min() < -5


def test_the_same_seed_gives_the_same_blends_and_another_does_not() -> None:
    recipe = BlendRecipe(stamp=32, max_shift=6)
    torch.testing.assert_close(draw(recipe, seed=1).blend, draw(recipe, seed=1).blend)
    assert not torch.equal(draw(recipe, seed=1).blend, draw(recipe, seed=2).blend)


def test_close_galaxies_are_near_the_first_whatever_way_they_are_turned() -> None:
    recipe = BlendRecipe(44, 6, (0, 0, 0, 0, 1), 0.0, 1.0, close=1.0, close_shift=2)
    sources = draw(recipe, n=200).sources[:, :, 0]
    axis = torch.arange(44) - 43 / 2
    flux = sources.sum(dim=(2, 3))
    x = (sources * axis).sum(dim=(2, 3)) / flux
    y = (sources * axis[:, None]).sum(dim=(2, 3)) / flux
    for position in (x, y):
        reach = position.amax(1) - position.amin(1)
        assert 3 < reach.max() < 4.1
        assert position.abs().max() > 5


def test_what_stands_in_for_a_band_is_a_blend_of_its_own_sources() -> None:
    recipe = BlendRecipe(32, 6, (0, 0, 1, 0, 0), 0.0, 1.0, context=True, fewer_bands=1.0)
    images = isolated([10.0, 20.0, 30.0])
    colors = torch.tensor([1.0, 3.0])[:, None, None]
    images = replace(images, images=images.images * colors.half())
    batch = compose(images, 64, recipe, torch.Generator().manual_seed(0))
    torch.testing.assert_close(batch.blend, batch.sources.sum(dim=1))
    missing = batch.context[:, :2].flatten(2).all(2)
    assert missing.any(0).all()
    assert not missing.all(1).any()
    same = (batch.blend[:, 0] == batch.blend[:, 1]).flatten(1).all(1)
    assert torch.equal(same, missing.any(1))


def test_masks_are_shown_and_filled() -> None:
    recipe = BlendRecipe(32, 6, (0, 1, 0, 0, 0), 0.0, 1.0, context=True, masked=1.0)
    batch = draw(recipe)
    mask = batch.context[:, :2] > 0
    assert mask.flatten(1).any(1).all()
    truth = batch.sources.sum(dim=1)
    torch.testing.assert_close(batch.blend[~mask], truth[~mask])
    assert not torch.equal(batch.blend[mask], truth[mask])
