"""Whatever the pixels: a flag and nulls, no exception, and no harm to the rest of the batch."""

from dataclasses import replace

import galsim
import numpy as np
import pytest
from galaxy_stamps import FLUX, SCALE, draw, make_blend
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raydeblend.fit import single as mixture
from raydeblend.flags import Flag
from raydeblend.measure.measure import measure_blends
from raydeblend.survey import get_survey, nominal_psf

SIZE = 40
SIGMA = 3.0
PSF = tuple(nominal_psf(get_survey("HSC"), band) for band in "gri")
XY = np.array([[17.2, 19.0], [23.9, 20.6]])
PROFILE = galsim.Exponential(half_light_radius=0.4).shear(g1=0.1, g2=0.05)
LIGHT = np.stack(
    [
        np.stack([f * draw(PROFILE, p, at, SIZE) for p, f in zip(PSF, FLUX, strict=True)])
        for at in XY
    ]
)
NOISE = np.random.default_rng(0).normal(0, SIGMA, LIGHT.shape[1:])

SETTINGS = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
MODELS = st.sampled_from(["exp", "bdf", "template"])
# Every step is one evaluation, and a stamp is fitted at most three times: the sums of its pixels,
# its window, and the whole of it.
CONFIG = mixture.CONFIG
MOST_EVALUATIONS = len(CONFIG.first_sizes) + CONFIG.coarse_steps + 2 * (CONFIG.max_steps + 1)


def good_blend():
    return make_blend(LIGHT.sum(0) + NOISE, SIGMA, XY)


def masked(blend):
    return replace(blend, unusable=np.ones(blend.image.shape, bool)), LIGHT, XY


def with_variance(value):
    def change(blend):
        return replace(blend, variance=np.full(blend.image.shape, value, np.float32)), LIGHT, XY

    return change


def with_image(value):
    def change(blend):
        return replace(blend, image=np.full(blend.image.shape, value, np.float32)), LIGHT, XY

    return change


def one_pixel(blend):
    return make_blend(np.ones((3, 1, 1)), 1.0, np.zeros((2, 2))), np.ones((2, 3, 1, 1)), 0 * XY


def off_stamp(blend):
    return blend, LIGHT, XY + 500.0


def nowhere(blend):
    return blend, LIGHT, np.full((2, 2), np.nan)


def models_of_nan(blend):
    return blend, np.full_like(LIGHT, np.nan), XY


NULLS = {
    "all masked": masked,
    "variance zero": with_variance(0.0),
    "variance negative": with_variance(-1.0),
    "variance NaN": with_variance(np.nan),
    "image NaN": with_image(np.nan),
    "one pixel": one_pixel,
    "models NaN": models_of_nan,
}
ODD = {
    "off the stamp": off_stamp,
    "no position": nowhere,
    "huge": with_image(1e38),
    "infinite": with_image(np.inf),
    "variance tiny": with_variance(1e-38),
    "variance huge": with_variance(1e38),
}


def measure(cases, model, psf=PSF):
    blends, models, xy = zip(*cases, strict=True)
    return measure_blends(blends, models, xy, psf, SCALE, "mixture", model=model)


def assert_null_or_number(result):
    failed = (result.flags & Flag.FIT_FAILED) != 0
    assert np.isnan(result.flux[failed]).all()
    assert np.isnan(result.chi2[failed]).all()
    assert np.isfinite(result.flux[~failed]).any(1).all()
    assert (result.flux_err[~failed][np.isfinite(result.flux[~failed])] > 0).all()
    assert not (result.flags & Flag.NOT_ATTEMPTED).any()


@SETTINGS
@given(st.lists(st.sampled_from(sorted(NULLS | ODD)), min_size=1, max_size=4), MODELS)
def test_bad_blends_get_nulls_and_leave_the_good_one_alone(names, model):
    good = (good_blend(), LIGHT, XY)
    cases = [(NULLS | ODD)[name](good_blend()) for name in names]
    *bad, together = measure([*cases, good], model)
    (alone,) = measure([good], model)
    np.testing.assert_allclose(together.flux, alone.flux, rtol=1e-5)
    assert together.flags.tolist() == [0, 0]
    for name, result in zip(names, bad, strict=True):
        assert_null_or_number(result)
        if name in NULLS:
            assert (result.flags & Flag.FIT_FAILED).all(), name


@SETTINGS
@given(
    st.integers(0, 10_000),
    st.floats(0.0, 0.9),
    st.sampled_from(["NaN", "zero", "negative"]),
    MODELS,
)
def test_lost_pixels_lower_no_truth(seed, part, how, model):
    blend = good_blend()
    lost = np.random.default_rng(seed).random(blend.image.shape) < part
    image = np.where(lost, np.nan if how == "NaN" else 1e5, blend.image).astype(np.float32)
    variance = np.where(lost & (how != "NaN"), 0.0 if how == "zero" else -4.0, blend.variance)
    (result,) = measure([(replace(blend, image=image, variance=variance), LIGHT, XY)], model)
    assert_null_or_number(result)
    pulls = (result.flux - FLUX) / result.flux_err
    assert np.abs(pulls[np.isfinite(pulls)]).max(initial=0) < 6


@SETTINGS
@given(st.floats(-3.0, -0.01), MODELS)
def test_negative_light_is_a_negative_flux_or_null(amount, model):
    blend = make_blend(amount * LIGHT.sum(0) + NOISE, SIGMA, XY)
    (result,) = measure([(blend, LIGHT, XY)], model)
    assert_null_or_number(result)
    assert not (result.flux > 8 * result.flux_err).any()


@SETTINGS
@given(st.integers(1, 57), st.floats(0.1, 60.0), MODELS)
def test_any_psf(size, width, model):
    y, x = np.indices((size, size)) - (size - 1) / 2
    stamp = np.exp(-0.5 * (x**2 + y**2) / width**2)
    (result,) = measure([(good_blend(), LIGHT, XY)], model, psf=(stamp,) * 3)
    assert_null_or_number(result)


@SETTINGS
@given(st.floats(0.0, 1.0), st.sampled_from(["exp", "bdf"]))
def test_coincident_sources_share_the_light_with_large_errors(distance, model):
    xy = np.array([XY[0], XY[0] + [distance, 0.0]])
    blend = make_blend(LIGHT[0] + NOISE, SIGMA, xy)
    halves = np.stack([0.5 * LIGHT[0]] * 2)
    (result,) = measure([(blend, halves, xy)], model)
    assert_null_or_number(result)
    if not (result.flags & Flag.FIT_FAILED).any():
        apart = (result.flux.sum(0) - FLUX) / np.sqrt((result.flux_err**2).sum(0))
        assert np.abs(apart).max() < 6


@pytest.mark.parametrize("name", sorted(NULLS | ODD))
@pytest.mark.parametrize("model", ["exp", "bdf"])
def test_no_stamp_takes_more_than_a_bounded_number_of_steps(monkeypatch, name, model):
    counts = []

    def counted(*arguments, solve=mixture.solve):
        found = solve(*arguments)
        counts.extend(found.evaluations)
        return found

    monkeypatch.setattr(mixture, "solve", counted)
    measure([(NULLS | ODD)[name](good_blend())], model)
    assert len(counts) == 2
    assert all(0 < count <= MOST_EVALUATIONS for count in counts)
