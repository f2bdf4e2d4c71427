"""Stars narrower than the given PSF: one source each, and the neighbor keeps its light."""

from dataclasses import replace

import galsim
import numpy as np
import pytest

from raydeblend.deblend.joint.deblender import JointDeblender

SCALE, SIDE, BANDS = 0.168, 64, 3
STAR, GALAXY = np.array([30.2, 32.7]), np.array([39.0, 28.0])
STAR_FLUX, GALAXY_FLUX = 8e3, 4e2
JOINT = JointDeblender.load("cpu")
GIVEN_UP = replace(
    JOINT, config=replace(JOINT.config, stars=replace(JOINT.config.stars, min_significance=np.inf))
)


def psf(broader=1.0):
    return galsim.Moffat(beta=3.0, fwhm=0.62 * broader)


def psfs(*broader):
    return np.stack([psf(b).drawImage(nx=41, ny=41, scale=SCALE).array for b in broader])


def sky(fwhm_ratio=1.0, star_flux=STAR_FLUX):
    """A star and a galaxy 10 pixels away, in noise of 1."""
    image = galsim.Image(SIDE, SIDE, scale=SCALE, xmin=0, ymin=0)
    disk = galsim.Convolve(galsim.Exponential(half_light_radius=0.4), psf())
    for profile, flux, xy in ((psf(fwhm_ratio), star_flux, STAR), (disk, GALAXY_FLUX, GALAXY)):
        profile.withFlux(flux).drawImage(image, center=galsim.PositionD(*xy), add_to_image=True)
    return image.array + np.random.default_rng(3).normal(size=(BANDS, SIDE, SIDE))


def stamp_of(image, given, mask=None):
    (stamp,), _ = JOINT.make_stamps(image[None], np.ones_like(image)[None], mask, given, SCALE)
    return stamp


def widths(stamp):
    """Of the narrowest Gaussian of the PSF of each band, in that of the star."""
    (true,) = stamp_of(sky(), psfs(1, 1, 1)).psf[0]
    return [np.sqrt(band[0].covariances[0, 0, 0] / true.covariances[0, 0, 0]) for band in stamp.psf]


def test_psfs_become_as_narrow_as_the_star_in_the_bands_that_need_it():
    assert widths(stamp_of(sky(), psfs(1.2, 1.0, 1.1))) == pytest.approx([1, 1, 1], abs=0.02)
    assert widths(stamp_of(sky(), psfs(0.9, 1.0, 1.1))) == pytest.approx([0.9, 1, 1], abs=0.02)


def test_a_star_in_a_broad_psf_is_one_source_and_so_is_its_neighbor():
    image, given = sky(), psfs(1.15, 1.15, 1.15)
    found, without = (
        deblender(image[None], np.ones_like(image)[None], psf=given, pixel_scale=SCALE)
        for deblender in (JOINT, GIVEN_UP)
    )
    assert found.n_sources[0] == 2
    flux = found.extra["flux"][0, :2]
    np.testing.assert_allclose(flux[0], STAR_FLUX, rtol=0.02)
    np.testing.assert_allclose(flux[1], GALAXY_FLUX, rtol=0.25)
    assert found.extra["chi2"][0, 0] < 1.2 < without.extra["chi2"][0, 0]


def test_faint_stars_hot_pixels_and_masked_cores_show_nothing():
    broad = psfs(1.2, 1.2, 1.2)
    y, x = np.indices((SIDE, SIDE))
    core = np.hypot(x - STAR[0], y - STAR[1]) < 1.5
    faint = stamp_of(sky(star_flux=300), broad)
    sharp = stamp_of(sky(fwhm_ratio=0.3), broad)
    masked = stamp_of(sky(), broad, core[None])
    assert widths(faint) == widths(sharp) == widths(masked) == pytest.approx([1.2] * 3, abs=0.02)
