"""Templates: amplitudes by a second method, honest errors, moments of Gaussians."""

import numpy as np
import pytest
from galaxy_stamps import SCALE, make_blend, measure_blend
from scipy.optimize import lsq_linear

from raydeblend.fit.amplitudes import solve_amplitudes
from raydeblend.flags import Flag
from raydeblend.measure.config import MeasureConfig
from raydeblend.measure.moments import adaptive_moments, shape_of

SIZE = 41
Y, X = np.indices((SIZE, SIZE)).astype(float)
PSF_COVARIANCE = np.diag([3.0, 3.0])
SHAPES = np.array([[[4.0, 1.0], [1.0, 2.0]], [[2.0, 0.0], [0.0, 5.0]]])
XY = np.array([[18.3, 20.1], [23.0, 19.4]])


def gaussian(covariance, at):
    offset = np.stack([X - at[0], Y - at[1]])
    chi2 = np.einsum("iyx,ij,jyx->yx", offset, np.linalg.inv(covariance), offset)
    return np.exp(-0.5 * chi2) / (2 * np.pi * np.sqrt(np.linalg.det(covariance)))


PSF = tuple(gaussian(PSF_COVARIANCE, (20, 20)) for _ in range(2))
LIGHT = np.stack(
    [
        gaussian(c + PSF_COVARIANCE, at) * np.array([300.0, 500.0])[:, None, None]
        for c, at in zip(SHAPES, XY, strict=True)
    ]
)
TRUE = np.array([[1.5, 0.7], [0.8, 1.2]])


def observed(seed=0, sigma=1.0):
    noise = np.random.default_rng(seed).normal(0, sigma, LIGHT.shape[1:])
    return make_blend((TRUE[..., None, None] * LIGHT).sum(0) + noise, sigma, XY)


BARE = MeasureConfig(template_noise=0.0)


def measure(blend, light=LIGHT, **options):
    places = XY[: len(light)]
    return measure_blend(blend, light, places, PSF, SCALE, "mixture", model="template", **options)


def test_fluxes_are_those_of_a_second_solver():
    blend, out = observed(), measure(observed())
    for band in range(2):
        design = LIGHT[:, band].reshape(2, -1).T
        expected = lsq_linear(design, blend.image[band].ravel().astype(float)).x
        np.testing.assert_allclose(
            out.flux[:, band], expected * LIGHT[:, band].sum((1, 2)), rtol=1e-4
        )
    assert not out.flags.any()
    assert out.chi2 == pytest.approx([1, 1], abs=0.3)
    assert (out.model, out.photometry) == ("template", "template")


def test_pulls_have_unit_variance_though_the_sources_overlap():
    true = TRUE * LIGHT.sum((2, 3))
    outs = [measure(observed(seed), config=BARE) for seed in range(150)]
    pulls = np.array([(out.flux - true) / out.flux_err for out in outs])
    assert np.all((pulls.std(0) > 0.85) & (pulls.std(0) < 1.15))
    assert np.abs(pulls.mean(0)).max() < 0.3


def test_a_neighbor_widens_the_error():
    alone = measure(observed(), LIGHT[:1], config=BARE)
    assert np.all(measure(observed(), config=BARE).flux_err[0] > 1.05 * alone.flux_err[0])


def test_equal_templates_share_the_light_and_say_so():
    twice = np.stack([LIGHT[0], LIGHT[0]])
    image = LIGHT[0] + np.random.default_rng(0).normal(0, 1, LIGHT[0].shape)
    out = measure(make_blend(image, 1.0, XY), twice, config=BARE)
    np.testing.assert_allclose(out.flux[0], out.flux[1], rtol=1e-3)
    np.testing.assert_allclose(out.flux.sum(0), LIGHT[0].sum((1, 2)), rtol=0.2)
    assert np.all(out.flux_err > 10 * measure(make_blend(image, 1.0, XY), config=BARE).flux_err)


def test_shapes_are_the_models_less_the_psf():
    out = measure(observed())
    for k, covariance in enumerate(SHAPES):
        size, g1, g2 = shape_of(covariance)
        assert out.T[k] == pytest.approx(size * SCALE**2, rel=1e-3)
        assert (out.g1[k], out.g2[k]) == pytest.approx((g1, g2), abs=1e-3)
    assert np.isnan(out.T_err).all()


def test_a_point_source_has_no_shape():
    narrow = LIGHT.copy()
    narrow[0] = gaussian(0.8 * PSF_COVARIANCE, XY[0])
    out = measure(observed(), narrow)
    assert np.isnan([out.T[0], out.g1[0], out.g2[0]]).all()
    assert np.isfinite(out.flux[0]).all()
    assert np.isfinite(out.T[1])


def test_a_band_without_light_is_missing_and_a_source_without_any_fails():
    light = LIGHT.copy()
    light[0, 1] = 0
    out = measure(observed(), light)
    assert out.flags.tolist() == [Flag.BAND_MISSING, 0]
    assert np.isnan(out.flux[0]).tolist() == [False, True]
    light[0] = 0
    out = measure(observed(), light)
    assert out.flags[0] & Flag.FIT_FAILED
    assert np.isnan([out.snr[0], out.chi2[0], out.flux[0, 0]]).all()


def test_adaptive_moments_of_gaussians_are_exact_wherever_they_start():
    for covariance, at in zip(SHAPES, XY, strict=True):
        found = adaptive_moments(gaussian(covariance, at), at + 0.4)
        np.testing.assert_allclose(found, covariance, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("image", [np.zeros((9, 9)), np.full((9, 9), np.nan), -np.ones((9, 9))])
def test_an_image_without_light_has_no_moments(image):
    assert np.isnan(adaptive_moments(image, np.array([4.0, 4.0]))).all()


def test_shape_of_a_sheared_circle():
    g1, g2 = 0.3, -0.2
    # A circle under the matrix of a shear of unit determinant.
    shear = np.array([[1 + g1, g2], [g2, 1 - g1]]) / np.sqrt(1 - g1**2 - g2**2)
    covariance = shear @ shear.T
    assert shape_of(covariance) == pytest.approx((np.trace(covariance), g1, g2))
    assert np.isnan(shape_of(np.diag([1.0, -1.0]))).all()
    assert np.isnan(shape_of(np.full((2, 2), np.nan))).all()


def test_amplitudes_of_a_batch_are_those_of_each():
    rng = np.random.default_rng(0)
    images, weight = rng.normal(size=(3, 2, 9, 9)), rng.random((3, 2, 9, 9))
    templates = rng.random((3, 2, 2, 9, 9))
    together = solve_amplitudes(images, weight, templates)
    alone = solve_amplitudes(images[1:2], weight[1:2], templates[1:2])
    np.testing.assert_allclose(together.value[1], alone.value[0])
    np.testing.assert_allclose(together.covariance[1], alone.covariance[0])
