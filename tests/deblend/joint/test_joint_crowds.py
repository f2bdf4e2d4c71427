"""Many sources, a few at a time: what is done to some holds for all, and costs no more for it."""

from dataclasses import replace

import galsim
import numpy as np
import pytest

from raydeblend.deblend.joint import compiled
from raydeblend.deblend.joint.crowds.crowd import Crowd
from raydeblend.deblend.joint.crowds.light import blendedness, images, neighbor_flux
from raydeblend.deblend.joint.crowds.patches import draw
from raydeblend.deblend.joint.crowds.separate import find_sources
from raydeblend.deblend.joint.crowds.sweeps import fit_peaks, settle
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.joint.search import first_peaks
from raydeblend.measure import blendedness as whole

SCALE, SIZE = 0.2, 72
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
PSF = np.stack([SEEING.drawImage(nx=41, ny=41, scale=SCALE).array] * 2)
JOINT = JointDeblender.load("cpu")
PLACES = np.array([(14.0 + 11 * (i % 5), 16.0 + 13 * (i // 5)) for i in range(15)])
FLUXES = np.geomspace(600, 2500, len(PLACES))


def sky(places: np.ndarray, fluxes: np.ndarray, width: int = SIZE) -> np.ndarray:
    image = galsim.Image(width, SIZE, scale=SCALE, xmin=0, ymin=0)
    for (x, y), flux in zip(places, fluxes, strict=True):
        galaxy = galsim.Exponential(half_light_radius=0.3, flux=flux).shear(g1=0.1, g2=0)
        own = galsim.Convolve(galaxy, SEEING)
        own.drawImage(image, center=galsim.PositionD(x, y), add_to_image=True)
    noise = np.random.default_rng(2).normal(size=(2, SIZE, width))
    return (image.array + noise).astype(np.float32)


def stamp_of(image: np.ndarray):
    (stamp,), _ = JOINT.make_stamps(image[None], np.ones_like(image[None]), None, PSF, SCALE)
    return stamp


@pytest.fixture(scope="module")
def stamp():
    return stamp_of(sky(PLACES, FLUXES))


@pytest.fixture
def crowd(stamp) -> Crowd:
    made = Crowd(stamp, JOINT.settings)
    fit_peaks(made, PLACES)
    return made


def test_a_patch_is_the_image_where_that_is_not_faint(crowd: Crowd) -> None:
    fit, patches = crowd.result()
    drawn = compiled.render(crowd.stamp, fit)
    config = crowd.config
    for source, (patch, image) in enumerate(zip(patches, drawn, strict=True)):
        window = (slice(None), *patch.box.slices)
        np.testing.assert_allclose(patch.light, image[window], atol=1e-4)
        outside = image.copy()
        outside[window] = 0
        assert outside.max() < 2 * config.faintest_drawn
        again = draw(crowd.stamp, fit, source, config)
        np.testing.assert_array_equal(again.light, patch.light)


def test_the_residual_is_the_image_less_all_light(crowd: Crowd) -> None:
    rest, group = crowd.rest.copy(), crowd.numbers[:3]
    trial = crowd.try_fit(group, crowd.fits(group), crowd.starts(group))
    np.testing.assert_array_equal(crowd.rest, rest)
    crowd.accept(trial)
    _, patches = crowd.result()
    total = images(patches, crowd.stamp.image.shape).sum(0)
    np.testing.assert_allclose(crowd.rest, crowd.stamp.image - total, atol=1e-3)


def test_a_group_that_is_fitted_again_gets_no_worse(crowd: Crowd) -> None:
    """But for the scale of fluxes in the priors of bulges, which is set anew in each fit."""
    for _ in range(2):
        group = crowd.near(np.array([36.0, 30.0]), 4)
        trial = crowd.try_fit(group, crowd.fits(group), crowd.starts(group))
        assert trial.gain > -0.5
        crowd.accept(trial)
    assert trial.gain < 1


def test_a_crowd_is_found_with_its_fluxes(stamp) -> None:
    fit, _ = find_sources(stamp, first_peaks(stamp), JOINT.settings)
    distance = np.hypot(*(fit.xy[:, None] - PLACES).T)
    assert len(fit.theta) == len(PLACES)
    assert distance.min(1).max() < 0.4
    off = fit.total[:, distance.argmin(1)] - FLUXES
    assert np.abs(off / fit.flux_err[:, distance.argmin(1)]).max() < 5
    assert not fit.limited


def test_far_sources_cost_nothing() -> None:
    """Two crowds side by side cost as much as each by itself."""
    alone = stamp_of(sky(PLACES, FLUXES))
    both = np.concatenate([PLACES, PLACES + np.array([SIZE, 0])])
    beside = stamp_of(sky(both, np.tile(FLUXES, 2), 2 * SIZE))
    work = [
        find_sources(each, xy, JOINT.settings)[0].work
        for each, xy in ((alone, PLACES), (beside, both))
    ]
    assert work[1] / work[0] == pytest.approx(2, rel=0.3)


def test_light_of_patches_is_that_of_whole_images(crowd: Crowd) -> None:
    _, patches = crowd.result()
    models, weight = images(patches, crowd.stamp.image.shape), crowd.stamp.weight
    np.testing.assert_allclose(
        neighbor_flux(patches, weight), whole.neighbor_flux(models, weight), rtol=1e-4, atol=1e-3
    )
    np.testing.assert_allclose(
        blendedness(patches, weight.shape), whole.blendedness(models), atol=1e-5
    )


def test_a_footprint_alone_has_the_sources_of_a_batch() -> None:
    image = sky(PLACES, FLUXES)
    variance, mask = np.ones_like(image), np.zeros(image.shape, dtype=bool)
    found = JOINT.separate_footprint(image, variance, mask, PSF, SCALE)
    batch = JOINT(image[None], variance[None], mask[None], PSF, pixel_scale=SCALE)
    np.testing.assert_array_equal(found.xy, batch.xy[0])
    for box, light, model in zip(found.boxes, found.lights, batch.models[0], strict=True):
        np.testing.assert_array_equal(model[:, *box.slices], light)
    for name, values in found.extra.items():
        np.testing.assert_array_equal(values, batch.extra[name][0])


def test_bad_pixels_and_coincident_sources_spoil_no_other() -> None:
    image, mask = sky(PLACES, FLUXES), np.zeros((2, SIZE, SIZE), dtype=bool)
    image[:, 30:33, 20:40], image[:, 5, 5] = np.nan, np.inf
    mask[1] = True
    places = np.concatenate([PLACES, PLACES[:2], [[-50.0, 500.0]]])
    result = JOINT(image[None], mask=mask[None], psf=PSF, pixel_scale=SCALE, xy=[places])
    assert result.n_sources[0] == len(places)
    flux = result.extra["flux"][0]
    assert np.isfinite(flux[:, 0]).all()
    assert np.isnan(flux[:, 1]).all()
    # The last row is hardly touched: bad pixels lie two rows above, what is doubled in the first.
    for xy, true in zip(PLACES[10:], FLUXES[10:], strict=True):
        nearest = np.hypot(*(result.xy[0] - xy).T).argmin()
        assert flux[nearest, 0] == pytest.approx(true, rel=0.15)


def test_what_still_falls_when_the_sweeps_end_is_named(crowd: Crowd) -> None:
    one = replace(crowd.config, sweeps=1, hasty_sweeps=0)
    never, at_once = (replace(one, settled=by) for by in (-1e9, 1e9))
    assert set(settle(crowd, never)) == set(crowd.members)
    assert len(settle(crowd, at_once)) == 0


def test_rough_blocks_are_those_of_before_the_search() -> None:
    config = JOINT.config.blocks
    rough = config.rough
    assert (rough.max_joint_sources, rough.sweeps) == (config.rough_sources, config.rough_sweeps)
    assert rough.hasty_sweeps == config.rough_hasty_sweeps
    assert rough.settled == config.settled


def test_a_hasty_sweep_costs_less_and_what_it_leaves_is_named(crowd: Crowd) -> None:
    for number in crowd.numbers.tolist():
        member = crowd.members[number]
        crowd.members[number] = replace(member, start=member.start + 0.7)
    hasty = replace(crowd.config, sweeps=1, hasty_sweeps=1, settled=1e9)
    before = crowd.work
    unsettled = settle(crowd, hasty)
    spent = crowd.work - before
    assert {n for n, m in crowd.members.items() if not m.fit.converged} == set(unsettled)
    assert len(unsettled)
    settle(crowd, replace(hasty, hasty_sweeps=0))
    assert all(member.fit.converged for member in crowd.members.values())
    assert spent < crowd.work - before - spent
