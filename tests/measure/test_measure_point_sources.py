"""Fluxes in the PSF and widths beyond it, against GalSim and the scatter of repeated noise."""

from dataclasses import replace

import galsim
import numpy as np
import pytest
from galaxy_stamps import FLUX, SCALE, draw, draw_models, make_blend

from raydeblend.measure.point_sources import measure_points

SIZE = 48
STAR = galsim.DeltaFunction()


def observe(profile, psf, at, flux=FLUX, sigma=1.0, seed=0, n=1):
    light = draw_models([profile], psf, np.array([at]), flux[None], SIZE)[0]
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, sigma, (n, *light.shape))
    return [make_blend(light + each, sigma, np.array([at])) for each in noise]


def points(blend, psf, models=None):
    none = np.zeros((len(blend.xy), *blend.image.shape))
    return measure_points(blend, none if models is None else models, blend.xy, psf)


@pytest.mark.parametrize("at", [(23.0, 23.0), (23.5, 22.75), (24.3, 23.1)])
def test_the_flux_of_a_star_is_its_flux_wherever_it_lies_in_a_pixel(psf, at):
    (blend,) = observe(STAR, psf, at, sigma=1e-3)
    out = points(blend, psf)
    np.testing.assert_allclose(out.flux[0], FLUX, rtol=2e-3)
    assert abs(out.excess[0]) < 5e-3


def test_errors_are_the_scatter_of_repeated_noise(psf):
    blends = observe(STAR, psf, (23.4, 23.2), FLUX / 20, sigma=4.0, n=300)
    out = [points(blend, psf) for blend in blends]
    flux, error = (np.concatenate([getattr(o, name) for o in out]) for name in ("flux", "flux_err"))
    pulls = (flux - FLUX / 20) / error
    assert np.abs(pulls.mean(0)).max() < 0.2
    np.testing.assert_allclose(pulls.std(0), 1, atol=0.12)
    excess = np.array([o.excess[0] for o in out]) / [o.excess_err[0] for o in out]
    assert abs(excess.mean()) < 0.25
    assert excess.std() == pytest.approx(1, abs=0.15)


def test_the_flux_of_a_galaxy_in_the_psf_is_the_projection_on_it(psf):
    galaxy = galsim.Exponential(half_light_radius=0.4)
    (blend,) = observe(galaxy, psf, (23.0, 23.0), sigma=1e-3)
    out = points(blend, psf)
    for band, stamp in enumerate(psf):
        seen = draw(galaxy, stamp, np.array([23.0, 23.0]), SIZE)
        point = draw(STAR, stamp, np.array([23.0, 23.0]), SIZE)
        expected = FLUX[band] * (point * seen).sum() / (point**2).sum()
        assert out.flux[0, band] == pytest.approx(expected, rel=5e-3)
        assert expected < 0.8 * FLUX[band]


@pytest.mark.parametrize("size", [0.1, 0.3])
def test_the_width_of_a_gaussian_galaxy_is_its_t_over_that_of_the_psf(size):
    """Of a Gaussian behind a Gaussian T adds up, and small ones are to first order right."""
    seeing = galsim.Gaussian(sigma=0.3)
    psf = [seeing.drawImage(nx=41, ny=41, scale=SCALE, method="no_pixel").array] * 3
    galaxy = galsim.Gaussian(sigma=0.3 * np.sqrt(size))
    (blend,) = observe(galaxy, psf, (23.0, 23.0), sigma=1e-3)
    assert points(blend, psf).excess[0] == pytest.approx(size, rel=0.25)


def test_a_galaxy_of_half_the_psf_s_size_is_far_from_a_star(psf):
    galaxy = galsim.Exponential(half_light_radius=0.2)
    (blend,) = observe(galaxy, psf, (23.3, 23.0), FLUX / 10, sigma=1.0)
    out = points(blend, psf)
    assert out.excess[0] > 5 * out.excess_err[0]


def test_neighbors_are_taken_out(psf):
    xy = np.array([[20.0, 23.0], [27.0, 24.0]])
    models = draw_models([STAR, STAR], psf, xy, np.stack([FLUX, FLUX / 2]), SIZE)
    out = points(make_blend(models.sum(0), 1.0, xy), psf, models)
    np.testing.assert_allclose(out.flux, [FLUX, FLUX / 2], rtol=2e-3)


def test_masked_pixels_do_not_count_and_a_hidden_source_has_no_flux(psf):
    (blend,) = observe(STAR, psf, (23.0, 23.0), sigma=1e-2)
    unusable = blend.unusable.copy()
    unusable[:, 20:24, :] = True
    image = np.where(unusable, 1e6, blend.image).astype(np.float32)
    whole = points(blend, psf)
    masked = points(replace(blend, image=image, unusable=unusable), psf)
    np.testing.assert_allclose(masked.flux[0], FLUX, rtol=5e-3)
    assert (masked.flux_err > whole.flux_err).all()
    assert masked.lost[0] > 0.4
    assert whole.lost[0] < 0.01
    unusable[0] = True
    hidden = points(replace(blend, unusable=unusable), psf)
    assert np.isnan(hidden.flux[0]).tolist() == [True, False, False]


@pytest.mark.parametrize("at", [(np.nan, 3.0), (1e9, 2.0), (-400.0, 10.0)])
def test_a_place_off_the_stamp_has_no_flux(psf, at):
    (blend,) = observe(STAR, psf, (23.0, 23.0))
    none = np.zeros((1, *blend.image.shape))
    out = measure_points(blend, none, np.array([at]), psf)
    assert np.isnan(out.flux).all()
    assert np.isnan(out.excess[0])


def test_a_band_without_a_psf_is_not_measured(psf):
    (blend,) = observe(STAR, psf, (23.0, 23.0))
    out = points(blend, [psf[0], np.zeros((9, 9)), psf[2]])
    assert np.isnan(out.flux[0]).tolist() == [False, True, False]
