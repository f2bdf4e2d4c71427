"""All sources of a blend at once: fluxes, errors that hold, noise of the neighbors."""

from dataclasses import replace

import galsim
import numpy as np
import pytest
from galaxy_stamps import FLUX, SCALE, draw_models, make_blend
from plain_mixture import distance_from_minimum

from raydeblend.fit import blend as mixture_blend
from raydeblend.fit.blend import Sources, fit_blends
from raydeblend.fit.compiled.refit import refit
from raydeblend.fit.profile_model import make_family, size_class
from raydeblend.fit.profiles import profile
from raydeblend.fit.psf import fit_psf
from raydeblend.fit.single_priors import DEFAULT_PRIORS
from raydeblend.flags import Flag
from raydeblend.measure.blendedness import neighbor_flux
from raydeblend.measure.config import MeasureConfig
from raydeblend.measure.measure import measure_blends

SIZE, SIGMA = 48, 4.0
XY = np.array([[21.2, 23.0], [26.4, 24.6]])
PROFILES = (
    galsim.Exponential(half_light_radius=0.4).shear(g1=0.1, g2=0.05),
    galsim.Exponential(half_light_radius=0.3).shear(g1=-0.1, g2=0.1),
)
TRUE = FLUX * np.array([[1.0], [0.4]])


@pytest.fixture(scope="module")
def light(psf):
    return draw_models(PROFILES, psf, XY, TRUE, SIZE)


def blends_of(light, n):
    rng = np.random.default_rng(1)
    return [
        make_blend(light.sum(0) + rng.normal(0, SIGMA, light.shape[1:]), SIGMA, XY)
        for _ in range(n)
    ]


def measure(blends, models, psf, **options):
    return measure_blends(
        blends, [models] * len(blends), [XY] * len(blends), psf, SCALE, "mixture", **options
    )


def stack(results, name):
    return np.stack([getattr(result, name) for result in results])


def test_joint_fluxes_mend_wrong_models_of_the_neighbors(light, psf):
    # The deblender gave a fifth of the bright galaxy's light to the faint one.
    wrong = np.stack([0.8 * light[0], light[1] + 0.2 * light[0]])
    blends = blends_of(light, 20)
    single, joint = (measure(blends, wrong, psf, joint_flux=j) for j in (False, True))
    error = [np.median(np.abs(stack(r, "flux") / TRUE - 1), 0).mean(1) for r in (single, joint)]
    assert error[0][1] > 0.15
    assert np.all(error[1] < 0.05)


def test_a_blend_too_large_to_be_fitted_together_keeps_its_single_fits(light, psf):
    wrong = np.stack([0.8 * light[0], light[1] + 0.2 * light[0]])
    blends = blends_of(light, 2)
    single = measure(blends, wrong, psf, joint_flux=False)
    size = 2 * blends[0].image.size
    limited = measure(blends, wrong, psf, config=MeasureConfig(max_values=size - 1))
    np.testing.assert_array_equal(stack(limited, "flux"), stack(single, "flux"))
    assert (stack(limited, "flags") == stack(single, "flags") | Flag.DEBLEND_LIMITED).all()
    joined = measure(blends, wrong, psf, config=MeasureConfig(max_values=size))
    assert not (stack(joined, "flags") & Flag.DEBLEND_LIMITED).any()
    assert (stack(joined, "flux") != stack(single, "flux")).all()


def test_joint_errors_hold_and_are_larger_than_those_of_known_neighbors(light, psf):
    bare = MeasureConfig(single_noise=0.0, joint_noise=0.0)
    blends = blends_of(light, 100)
    joint = measure(blends, light, psf, config=bare)
    pulls = (stack(joint, "flux") - TRUE) / stack(joint, "flux_err")
    assert np.all((pulls.std(0) > 0.8) & (pulls.std(0) < 1.2))
    assert np.abs(pulls.mean(0)).max() < 0.4
    single = measure(blends[:5], light, psf, joint_flux=False, config=bare)
    assert np.all(stack(joint[:5], "flux_err") > stack(single, "flux_err"))
    shapes = (stack(joint, "g1") - [0.1, -0.1]) / stack(joint, "g1_err")
    assert np.all((shapes.std(0) > 0.75) & (shapes.std(0) < 1.25))


def test_no_blend_is_compiled_anew(light, psf):
    blends = blends_of(light, 2)
    for model in ("exp", "bdf"):
        measure(blends, light, psf, model=model)
    assert len(refit.signatures) == 1


def test_joint_result_does_not_depend_on_the_batch(light, psf):
    blends = blends_of(light, 7)
    together = measure(blends, light, psf)
    (alone,) = measure(blends[3:4], light, psf)
    np.testing.assert_array_equal(alone.flux, together[3].flux)


def test_a_source_that_failed_is_taken_out_by_its_model(light, psf):
    blend = blends_of(light, 1)[0]
    far = np.array([[21.2, 23.0], [900.0, 24.6]])
    (out,) = measure_blends([blend], [light], [far], psf, SCALE, "mixture")
    assert np.isnan(out.flux[1]).all()
    assert np.abs((out.flux[0] - TRUE[0]) / out.flux_err[0]).max() < 4


def test_a_missing_band_stays_missing(light, psf):
    blend = blends_of(light, 1)[0]
    unusable = blend.unusable.copy()
    unusable[1] = True
    (out,) = measure([replace(blend, unusable=unusable)], light, psf)
    assert np.isnan(out.flux[:, 1]).all()
    assert np.abs(((out.flux - TRUE) / out.flux_err)[:, [0, 2]]).max() < 4


def test_many_rounds_end_at_the_minimum_of_plain_sums(light, psf, monkeypatch):
    patient = replace(mixture_blend.CONFIG, rounds=15, ridge=0.0, reach=100.0)
    monkeypatch.setattr(mixture_blend, "CONFIG", patient)
    start = np.array([[0.1, 0.0, 0.1, 0.0, -1.2, 0.3], [-0.1, 0.1, 0.0, 0.1, -1.5, 0.6]])
    image = blends_of(light, 1)[0].image.astype(float)
    weight = np.full(image.shape, SIGMA**-2)
    mixtures = tuple(map(fit_psf, psf))
    sources = Sources(image, weight, XY, start, np.ones((2, 3), bool))
    (fit,) = fit_blends([sources], mixtures, SCALE, "bdf")
    half_t = float(size_class(start[:, 4].max(), SCALE)[1])
    family = make_family(profile("bdf"), mixtures, SCALE, DEFAULT_PRIORS, half_t)
    assert np.abs(fit.theta - start).max() > 0.1
    far = distance_from_minimum(family, fit.theta, fit.theta_err, XY, image, weight)
    assert np.abs(far).max() < 0.01


def test_neighbors_flux_under_a_source_is_what_a_matched_filter_would_gain(light):
    weight = np.full(light.shape[1:], SIGMA**-2)
    gained = [
        (t * light.sum(0)).sum((1, 2)) / (t**2).sum((1, 2)) * t.sum((1, 2)) - t.sum((1, 2))
        for t in light
    ]
    np.testing.assert_allclose(neighbor_flux(light, weight), gained, rtol=1e-6)
    assert np.all(neighbor_flux(light[:1], weight) == 0)
    assert np.all(neighbor_flux(0 * light, weight) == 0)


def test_noise_of_neighbors_is_part_of_the_error(light, psf):
    blends = blends_of(light, 1)
    errors = []
    for part in (0.0, 0.1):
        config = MeasureConfig(joint_noise=part)
        errors.append(measure(blends, light, psf, config=config)[0].flux_err)
    expected = np.hypot(errors[0], 0.1 * neighbor_flux(light, np.ones(light.shape[1:])))
    np.testing.assert_allclose(errors[1], expected, rtol=1e-6)
