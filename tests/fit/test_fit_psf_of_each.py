"""The PSF of each blend, where it changes over the sky."""

import importlib.util

import galsim
import numpy as np
import pytest
from galaxy_stamps import FLUX, SCALE, draw_models, make_blend, measure_blend

from raydeblend.errors import ConfigError
from raydeblend.measure.measure import measure_blends
from raydeblend.survey import draw_psf

NEEDS_NGMIX = pytest.mark.skipif(
    importlib.util.find_spec("ngmix") is None, reason="ngmix is not installed"
)
SIZE, SNR = 48, 200.0
XY = np.array([[20.3, 23.0], [28.4, 25.6]])
PROFILES = (
    galsim.Exponential(half_light_radius=0.45).shear(g1=0.1, g2=0.05),
    galsim.Exponential(half_light_radius=0.35).shear(g1=-0.1, g2=0.1),
)
TRUE = FLUX * np.array([[1.0], [0.6]])
SEEING = ((0.55, 0.0), (0.85, 0.08), (0.55, 0.0))


def stamps(fwhm, shear, side=41):
    """Return PSF stamps of three bands, worse and longer by `fwhm` and `shear` alike."""
    profiles = [galsim.Kolmogorov(fwhm=fwhm * s).shear(g1=shear) for s in (1.1, 1.0, 0.95)]
    return tuple(draw_psf(profile, SCALE, side) for profile in profiles)


@pytest.fixture(scope="module")
def psfs():
    return [stamps(*each) for each in SEEING]


@pytest.fixture(scope="module")
def scene(psfs):
    """Blends of the same two galaxies behind each PSF, and the galaxies' images as models."""
    rng = np.random.default_rng(3)
    models = [draw_models(PROFILES, psf, XY, TRUE, SIZE) for psf in psfs]
    clean = [light.sum(0) for light in models]
    sigma = float(np.sqrt((clean[0] ** 2).sum()) / SNR)
    return [make_blend(c + rng.normal(0, sigma, c.shape), sigma, XY) for c in clean], models


def errors(results):
    return np.array([r.flux / TRUE - 1 for r in results])


@pytest.mark.parametrize("engine", ["mixture", pytest.param("ngmix", marks=NEEDS_NGMIX)])
def test_each_blend_is_measured_with_its_own_psf(scene, psfs, engine):
    blends, models = scene
    own = measure_blends(blends, models, [XY] * 3, psfs, SCALE, engine)
    assert np.abs(errors(own)).max() < 0.06
    for result in own:
        np.testing.assert_allclose(result.g1, [0.1, -0.1], atol=0.05)
        np.testing.assert_allclose(result.T / own[0].T, 1, atol=0.25)
    # The PSF of the first for all, as it used to be: the second blend's galaxies seem larger,
    # and take on the shape of its PSF.
    shared = measure_blends(blends, models, [XY] * 3, psfs[0], SCALE, engine)
    assert np.all(shared[1].T > 1.4 * own[1].T)
    assert np.all(shared[1].g1 > own[1].g1 + 0.02)


def test_results_are_those_of_each_blend_alone(scene, psfs):
    blends, models = scene
    together = measure_blends(blends, models, [XY] * 3, psfs, SCALE, "mixture", model="bdf")
    for blend, light, psf, result in zip(blends, models, psfs, together, strict=True):
        alone = measure_blend(blend, light, XY, psf, SCALE, "mixture", model="bdf")
        np.testing.assert_allclose(alone.flux, result.flux, rtol=1e-4)
        np.testing.assert_allclose(alone.T, result.T, rtol=1e-3)


@NEEDS_NGMIX
def test_engines_agree_behind_different_psfs(scene, psfs):
    blends, models = scene
    ours, theirs = (
        measure_blends(blends, models, [XY] * 3, psfs, SCALE, engine, joint_flux=False)
        for engine in ("mixture", "ngmix")
    )
    for mine, other in zip(ours, theirs, strict=True):
        assert np.abs((mine.flux - other.flux) / other.flux_err).max() < 0.1
        np.testing.assert_allclose(mine.g1, other.g1, atol=0.01)


def test_templates_take_the_moments_of_their_own_psf(scene, psfs):
    blends, models = scene
    own = measure_blends(blends, models, [XY] * 3, psfs, SCALE, "mixture", model="template")
    # Adaptive moments less the PSF's are exact for Gaussians only.
    np.testing.assert_allclose(own[1].T / own[0].T, 1, atol=0.2)
    shared = measure_blends(blends, models, [XY] * 3, psfs[0], SCALE, "mixture", model="template")
    assert np.all(shared[1].T > 1.4 * own[1].T)


def test_stamps_may_come_as_arrays_lists_and_in_different_sizes(scene, psfs):
    blends, models = scene
    expected = measure_blends(blends, models, [XY] * 3, psfs, SCALE, "mixture")
    forms = (
        np.stack([np.stack(psf) for psf in psfs]),
        [list(psf) for psf in psfs],
        [[stamp.tolist() for stamp in psf] for psf in psfs],
    )
    for form in forms:
        for one, other in zip(
            measure_blends(blends, models, [XY] * 3, form, SCALE, "mixture"), expected, strict=True
        ):
            np.testing.assert_array_equal(one.flux, other.flux)
    ragged = [psfs[0], (psfs[1][0][4:-4, 4:-4], *psfs[1][1:]), psfs[2]]
    mixed = measure_blends(blends, models, [XY] * 3, ragged, SCALE, "mixture")
    np.testing.assert_array_equal(mixed[0].flux, expected[0].flux)
    assert not np.array_equal(mixed[1].flux[:, 0], expected[1].flux[:, 0])


def test_one_blend_without_a_band_s_psf_does_not_touch_the_others(scene, psfs):
    blends, models = scene
    broken = [psfs[0], (psfs[1][0], np.full((41, 41), np.nan), psfs[1][2]), psfs[2]]
    out = measure_blends(blends, models, [XY] * 3, broken, SCALE, "mixture")
    assert np.isnan(out[1].flux[:, 1]).all()
    assert np.isfinite(out[1].flux[:, [0, 2]]).all()
    assert np.isfinite(out[0].flux).all()


def test_as_many_psfs_as_blends(scene, psfs):
    blends, models = scene
    with pytest.raises(ConfigError, match="2 blends, but there are 3"):
        measure_blends(blends, models, [XY] * 3, psfs[:2], SCALE, "mixture")
    assert measure_blends([], [], [], psfs[0], SCALE, "mixture") == []
