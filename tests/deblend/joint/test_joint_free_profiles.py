"""Fluxes with free profiles: right for profiles that are no exponential, shapes left alone."""

from dataclasses import replace

import galsim
import numpy as np
import pytest

from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.joint.find import find_all
from raydeblend.deblend.joint.free_profiles import free_profiles, with_fluxes

SCALE, SIZE, FLUX = 0.168, 64, 600.0
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
PSF = np.stack([SEEING.drawImage(nx=43, ny=43, scale=SCALE).array] * 3)
JOINT = JointDeblender.load("cpu")


def noisy(index: float, seed: int) -> np.ndarray:
    """A galaxy of a Sérsic index in three bands with noise of 1, ``(1, 3, y, x)``."""
    profile = galsim.Sersic(index, half_light_radius=0.6, flux=FLUX).shear(g1=0.1, g2=0.05)
    image = galsim.Convolve(profile, SEEING).drawImage(nx=SIZE, ny=SIZE, scale=SCALE).array
    return (image + np.random.default_rng(seed).normal(size=(1, 3, SIZE, SIZE))).astype(np.float32)


def found_in(image: np.ndarray):
    stamps, _ = JOINT.make_stamps(image, np.ones_like(image), None, PSF, SCALE)
    found = find_all(stamps, JOINT.settings)
    return stamps, found, free_profiles(stamps, found, JOINT.settings)


@pytest.mark.parametrize("index", [2.0, 4.0])
def test_faint_galaxies_that_are_no_disks_keep_their_light(index: float) -> None:
    held, free = [], []
    for seed in range(16):
        _, (found,), (fit,) = found_in(noisy(index, seed))
        assert len(found.fit.theta) == 1
        held.append(found.fit.total.mean() / FLUX - 1)
        free.append(fit.total.mean() / FLUX - 1)
    # The standard error of a median of normal values is 1.25 times that of their mean.
    assert np.median(held) < -3 * 1.25 * np.std(held) / np.sqrt(16)
    assert abs(np.median(free)) < 3 * 1.25 * np.std(free) / np.sqrt(16)


def test_all_but_the_fluxes_stays() -> None:
    _, (found,), (free,) = found_in(noisy(2.0, 3))
    both = with_fluxes(found.fit, free)
    np.testing.assert_allclose(both.total, free.total)
    np.testing.assert_array_equal(both.flux_cov, free.flux_cov)
    np.testing.assert_array_equal(both.theta, found.fit.theta)
    np.testing.assert_allclose(
        both.flux[..., 1] / both.total, found.fit.flux[..., 1] / found.fit.total
    )


def test_a_band_without_light_takes_the_other_flux() -> None:
    _, (found,), (free,) = found_in(noisy(1.0, 4))
    flux = found.fit.flux.copy()
    flux[0] = 0
    both = with_fluxes(replace(found.fit, flux=flux), free)
    np.testing.assert_allclose(both.total, free.total)
