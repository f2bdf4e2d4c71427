"""Sources that are wider than they are seen."""

from dataclasses import replace

import galsim
import numpy as np
import pytest
from scipy.signal import fftconvolve

from raydeblend.deblend.joint.blend_fit import BlendFit
from raydeblend.deblend.joint.crowds.separate import grow
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.joint.find import fit_together
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.deblend.joint.widths import bound_widths, significance, too_wide
from raydeblend.fit.parameters import LOG_RADIUS

SCALE, SIZE = 0.2, 80
SEEING = galsim.Gaussian(fwhm=0.7)
PSF = SEEING.drawImage(nx=41, ny=41, scale=SCALE, method="no_pixel").array[None]
JOINT = JointDeblender.load("cpu")
FAINT = 70.0
"""Flux in units of a pixel's noise: some 12 sigma."""
FREE = replace(JOINT.config.prune, least_significance=0.0)


def drawn(flux: float, r50: float) -> np.ndarray:
    seen = galsim.Convolve(galsim.Exponential(half_light_radius=r50, flux=flux), SEEING)
    return seen.drawImage(nx=SIZE, ny=SIZE, scale=SCALE, method="no_pixel").array


def fitted(image: np.ndarray, seed: int) -> tuple[Stamp, BlendFit]:
    """Return the stamp of a noisy image, and the fit of a galaxy in its middle."""
    noisy = (image + np.random.default_rng(seed).normal(size=image.shape)).astype(np.float32)
    images = noisy[None, None]
    (stamp,), _ = JOINT.make_stamps(images, np.ones_like(images), None, PSF, SCALE)
    middle = np.full((1, 2), (SIZE - 1) / 2)
    (fit,) = fit_together([stamp], [middle], JOINT.settings)
    return stamp, fit


@pytest.mark.parametrize("r50", [1.0, 1.5, 3.0])
def test_significance_is_that_of_the_image_convolved_with_the_psf(r50: float) -> None:
    stamp, fit = fitted(drawn(5000, r50), 0)
    filtered = fftconvolve(drawn(5000, r50), PSF[0], mode="same").max() / np.sqrt((PSF**2).sum())
    np.testing.assert_allclose(
        significance(stamp, fit, fit.theta[:, LOG_RADIUS]), filtered, rtol=0.2
    )


@pytest.mark.parametrize("seed", [2, 4])
def test_a_faint_galaxy_does_not_take_the_light_of_the_sky(seed: int) -> None:
    """A fifth of the noise in every pixel: the halo of a star, or a sky that is off."""
    stamp, fit = fitted(drawn(FAINT, 0.2) + 0.2, seed)
    assert fit.total[0, 0] > 20 * FAINT
    (bounded,) = bound_widths([stamp], [fit], JOINT.settings)
    assert bounded.total[0, 0] < 6 * FAINT
    assert bounded.compact.all()
    assert bounded.work > fit.work


@pytest.mark.parametrize("seed", [2, 4])
def test_so_it_is_in_a_crowd(seed: int) -> None:
    stamp, fit = fitted(drawn(FAINT, 0.2) + 0.2, seed)
    free = replace(JOINT.settings, config=replace(JOINT.config, prune=FREE))
    fluxes = [grow(stamp, fit, 1, settings)[0].total.max() for settings in (free, JOINT.settings)]
    assert fluxes[0] > 3 * fluxes[1]


def test_a_wide_galaxy_that_shows_stays() -> None:
    """Its mean within half its light is the noise of a pixel."""
    flux = 2 * np.pi * (2.0 / SCALE) ** 2
    stamp, fit = fitted(drawn(flux, 2.0), 0)
    assert not too_wide(stamp, fit, JOINT.settings).any()
    assert bound_widths([stamp], [fit], JOINT.settings)[0] is fit
    np.testing.assert_allclose(fit.total[0, 0], flux, rtol=0.15)
