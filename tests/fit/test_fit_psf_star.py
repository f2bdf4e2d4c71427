"""The width of a star in a PSF that is not its own; both are GalSim's."""

import galsim
import numpy as np
import pytest

from raydeblend.fit.psf_star import width_in_psf
from raydeblend.fit.psf_wings import fit_wings

SCALE, SIDE, FWHM, FLUX = 0.168, 33, 0.62, 3e5
PLACE = np.array([16.3, 15.8])


def psf(broader=1.0):
    return galsim.Moffat(beta=3.0, fwhm=broader * FWHM).shear(g1=0.03, g2=-0.02)


def mixture(broader):
    return fit_wings(psf(broader).drawImage(nx=41, ny=41, scale=SCALE).array)


def pixels_of(profile):
    """Values, weights and places of the pixels of a source in noise of 1."""
    offset = PLACE - (SIDE - 1) / 2
    image = profile.withFlux(FLUX).drawImage(nx=SIDE, ny=SIDE, scale=SCALE, offset=offset).array
    noise = np.random.default_rng(5).normal(size=image.shape)
    y, x = np.indices(image.shape)
    near = np.hypot(x - PLACE[0], y - PLACE[1]) < 8
    xy = np.stack([x[near], y[near]]).astype(float)
    return (image + noise)[near].astype(float), np.ones(near.sum()), xy, PLACE.round()


@pytest.mark.parametrize("broader", [1.05, 1.2])
def test_a_star_is_narrower_than_a_psf_that_is_too_broad(broader):
    assert width_in_psf(mixture(broader), *pixels_of(psf())) == pytest.approx(1 / broader, rel=0.01)


@pytest.mark.parametrize("source", [psf(1.1), galsim.Convolve(psf(), galsim.Exponential(0.2))])
def test_what_is_wider_is_not_looked_at(source):
    assert width_in_psf(mixture(1.0), *pixels_of(source)) == 1


def test_what_has_no_light_is_none():
    image, *others = pixels_of(psf())
    assert width_in_psf(mixture(1.1), -image, *others) == 1
