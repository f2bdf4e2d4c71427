import galsim
import numpy as np
import pytest

import raydeblend
from raydeblend.deblend.joint.blocks import blocks
from raydeblend.deblend.joint.config import JointConfig, LimitConfig
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.errors import ConfigError

SCALE = 0.2
SIZE = 56
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
PSF = np.stack([SEEING.drawImage(nx=41, ny=41, scale=SCALE).array] * 3)
COLORS = np.array([0.7, 1.0, 1.2])
JOINT = JointDeblender.load("cpu")
TOGETHER = JOINT.config.blocks.max_joint_sources


def limited(**limits):
    return JointDeblender(config=JointConfig(limits=LimitConfig(**limits)))


def galaxy(x, y, flux, radius=0.35, g1=0.0, size=SIZE):
    profile = galsim.Exponential(half_light_radius=radius, flux=flux).shear(g1=g1, g2=0)
    middle = (size - 1) / 2
    image = galsim.Convolve(profile, SEEING).drawImage(
        nx=size, ny=size, scale=SCALE, offset=(x - middle, y - middle)
    )
    return COLORS[:, None, None] * image.array


def deblend(image, **options):
    images = np.asarray(image, dtype=np.float32)[None]
    options = {"variance": np.ones_like(images), "psf": PSF, "pixel_scale": SCALE} | options
    return JOINT(images, **options)


def noisy(*galaxies, seed=0):
    image = sum(galaxies)
    return image + np.random.default_rng(seed).normal(size=image.shape)


PAIR = galaxy(24.3, 27.1, 2000, g1=0.2), galaxy(32.8, 30.2, 900)


@pytest.fixture(scope="module")
def pair():
    return deblend(noisy(*PAIR))


def test_two_galaxies_come_apart(pair):
    assert pair.n_sources[0] == 2
    np.testing.assert_allclose(pair.xy[0], [[24.3, 27.1], [32.8, 30.2]], atol=0.3)
    for model, truth in zip(pair.models[0], PAIR, strict=True):
        np.testing.assert_allclose(model.sum((1, 2)), truth.sum((1, 2)), rtol=0.08)
    assert pair.quality[0] == "high"


def test_it_measures_them_with_honest_errors(pair):
    truth = np.array([image.sum((1, 2)) for image in PAIR])
    pulls = (pair.extra["flux"][0] - truth) / pair.extra["flux_err"][0]
    assert np.abs(pulls).max() < 4
    # A matched filter for the whole galaxy sets the least error there can be.
    least = [1 / np.sqrt((image[1] ** 2).sum()) * image[1].sum() for image in PAIR]
    assert np.all(pair.extra["flux_err"][0, :, 1] > least)
    # <x²> + <y²> of a round exponential is 2.13 half-light radii².
    assert pair.extra["T"][0, 1] == pytest.approx(2.13 * 0.35**2, abs=4 * pair.extra["T_err"][0, 1])
    assert pair.extra["g1"][0, 0] == pytest.approx(0.2, abs=4 * pair.extra["g1_err"][0, 0])


def test_one_galaxy_stays_one_even_if_long():
    result = deblend(noisy(galaxy(27.6, 28.2, 4000, radius=0.6, g1=0.45)))
    assert result.n_sources[0] == 1


def test_a_source_that_makes_no_peak_of_its_own_is_found():
    hidden = noisy(galaxy(26, 28, 1500, radius=0.15), galaxy(30.5, 28, 1500, radius=0.15))
    result = deblend(hidden)
    assert result.n_sources[0] == 2
    assert sorted(result.xy[0, :, 0]) == pytest.approx([26, 30.5], abs=0.6)


def test_noise_holds_no_source():
    result = deblend(np.random.default_rng(5).normal(size=(3, SIZE, SIZE)))
    assert result.n_sources[0] == 0
    assert result.quality[0] == "none"
    assert not result.models.any()


def test_given_positions_are_kept_and_none_is_added():
    result = deblend(noisy(*PAIR), xy=[[[24.3, 27.1]]])
    assert result.n_sources[0] == 1


def test_the_unit_does_not_matter(pair):
    images = noisy(*PAIR).astype(np.float32)[None]
    scaled = JOINT(images * 1e-3, variance=np.full_like(images, 1e-6), psf=PSF, pixel_scale=SCALE)
    np.testing.assert_allclose(scaled.models, pair.models * 1e-3, rtol=1e-3, atol=1e-6)


def test_a_missing_band_is_null_and_spoils_no_other(pair):
    image = noisy(*PAIR)
    image[2] = np.nan
    result = deblend(image)
    assert np.isnan(result.extra["flux"][0, :, 2]).all()
    np.testing.assert_allclose(
        result.extra["flux"][0, :, :2], pair.extra["flux"][0, :, :2], rtol=0.1
    )
    assert np.abs(result.models[0, :, 2]).max() < 1e-3


def test_a_band_whose_psf_cannot_be_used_is_missing(pair):
    broken = PSF.copy()
    broken[1] = np.nan
    result = deblend(noisy(*PAIR), psf=broken)
    assert np.isnan(result.extra["flux"][0, :, 1]).all()
    np.testing.assert_allclose(
        result.extra["flux"][0, :, ::2], pair.extra["flux"][0, :, ::2], rtol=0.1
    )


def test_no_usable_psf_or_pixel_finds_nothing():
    assert deblend(noisy(*PAIR), psf=np.zeros_like(PSF)).n_sources[0] == 0
    assert deblend(np.full((3, SIZE, SIZE), np.nan)).n_sources[0] == 0


def test_masked_pixels_have_no_part(pair):
    image, mask = noisy(*PAIR), np.zeros((1, SIZE, SIZE), dtype=bool)
    mask[0, 28:30, 20:40] = True
    image[:, mask[0]] = 1e5
    result = deblend(image, mask=mask)
    assert result.n_sources[0] == 2
    np.testing.assert_allclose(result.extra["flux"][0], pair.extra["flux"][0], rtol=0.15)


def test_a_crowd_is_fitted_in_blocks():
    places = [(16 + 12 * (i % 4), 20 + 14 * (i // 4)) for i in range(TOGETHER + 2)]
    crowd = [galaxy(x, y, 900 + 50 * i, size=72) for i, (x, y) in enumerate(places)]
    result = deblend(noisy(*crowd))
    assert result.n_sources[0] == len(places)
    found = result.xy[0][np.lexsort(np.round(result.xy[0]).T)]
    np.testing.assert_allclose(found, places, atol=0.5)
    fluxes = result.extra["flux"][0, :, 1]
    np.testing.assert_allclose(np.sort(fluxes), np.sort([c[1].sum() for c in crowd]), rtol=0.12)


def crowd():
    places = [(14 + 13 * (i % 3), 14 + 13 * (i // 3)) for i in range(9)]
    return noisy(*(galaxy(x, y, 900) for x, y in places))


def test_a_blend_over_the_limit_is_let_go_and_spoils_no_other(pair):
    images = np.stack([crowd(), noisy(*PAIR)]).astype(np.float32)
    options = {"variance": np.ones_like(images), "psf": PSF, "pixel_scale": SCALE}
    result = limited(most_work=2e4, work_per_source=0)(images, **options)
    assert result.extra["limited"].tolist() == [True, True]
    # The peaks of few are fitted in any case, those of many not.
    assert result.n_sources.tolist() == [0, 2]
    np.testing.assert_allclose(result.xy[1], pair.xy[0], atol=0.1)
    free = JOINT(images, **options)
    assert free.extra["limited"].tolist() == [False, False]
    assert free.n_sources.tolist() == [9, 2]


def test_the_deadline_ends_it_too():
    images = crowd().astype(np.float32)[None]
    late = limited(seconds=0.0)(images, psf=PSF, pixel_scale=SCALE)
    assert late.extra["limited"].all()
    assert late.n_sources[0] == 0


def test_models_too_large_for_the_memory_are_not_made():
    images = crowd().astype(np.float32)[None]
    result = limited(most_values=8 * 3 * SIZE**2)(images, psf=PSF, pixel_scale=SCALE)
    assert result.extra["limited"].all()
    assert result.n_sources[0] == 0


def test_every_source_is_in_one_block():
    xy = np.random.default_rng(1).uniform(0, 100, (23, 2))
    found = list(blocks(xy, TOGETHER))
    assert sorted(np.concatenate(found)) == list(range(23))
    assert max(map(len, found)) == TOGETHER
    (near,) = blocks(xy, TOGETHER, np.array([4]))
    distance = np.hypot(*(xy - xy[4]).T)
    assert set(near) == set(np.argsort(distance)[:TOGETHER])


def test_a_batch_of_unlike_stamps_is_each_its_own(pair):
    images = np.stack([noisy(*PAIR), noisy(galaxy(27, 27, 800)), np.zeros((3, SIZE, SIZE))])
    images = images.astype(np.float32)
    options = {"variance": np.ones_like(images), "psf": PSF, "pixel_scale": SCALE}
    result = JOINT(images, **options)
    assert result.n_sources.tolist() == [2, 1, 0]
    np.testing.assert_array_equal(result.models[0], pair.models[0])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"psf": PSF[:2]}, "2 bands"),
        ({"psf": PSF[0]}, "psf must be"),
    ],
)
def test_bad_arguments_are_named(change, problem):
    with pytest.raises(ConfigError, match=problem):
        deblend(noisy(*PAIR), **change)


def test_without_a_psf_a_usual_one_stands_in(pair):
    images = noisy(*PAIR).astype(np.float32)[None]
    result = JOINT(images)
    assert result.n_sources[0] == 2
    np.testing.assert_allclose(result.xy, pair.xy, atol=0.3)
    np.testing.assert_allclose(result.extra["flux"], pair.extra["flux"], rtol=0.15)


def test_it_is_loaded_by_name():
    assert raydeblend.load("joint", device="cpu").name == "joint"
