"""Galaxies steeper than a disk and a bulge."""

import galsim
import numpy as np
import pytest

from raydeblend.deblend.joint.blend_fit import BlendFit, FitRequest
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.joint.fitting import fit_requests
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.deblend.joint.steep import has_large_bulge, try_steep
from raydeblend.fit.parameters import LOG_INDEX

SCALE, SIZE = 0.168, 96
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
PSF = np.stack([SEEING.drawImage(nx=43, ny=43, scale=SCALE).array] * 3)
JOINT = JointDeblender.load("cpu")
CONFIG = JOINT.config.steep


def fitted(galaxy: galsim.GSObject) -> tuple[Stamp, BlendFit, np.ndarray]:
    """Return the stamp of a galaxy, a fit from a usual one, and its flux in the stamp's unit."""
    drawn = galsim.Convolve(galaxy, SEEING).drawImage(nx=SIZE, ny=SIZE, scale=SCALE)
    noise = np.random.default_rng(1).normal(size=(1, 3, SIZE, SIZE))
    images = (drawn.array + noise).astype(np.float32)
    (stamp,), unit = JOINT.make_stamps(images, np.ones_like(images), None, PSF, SCALE)
    middle = np.full((1, 2), (SIZE - 1) / 2)
    (fit,) = fit_requests([FitRequest(stamp, middle, np.zeros(1, dtype=bool))], JOINT.settings)
    return stamp, fit, galaxy.flux / unit[0, :, 0, 0]


@pytest.mark.parametrize("index", [4.0, 6.0])
def test_a_steep_galaxy_is_one_steep_profile(index: float) -> None:
    stamp, fit, flux = fitted(
        galsim.Sersic(index, half_light_radius=0.3, flux=3e3).shear(g1=0.1, g2=0.05)
    )
    assert has_large_bulge(fit, CONFIG).all()
    (steep,) = try_steep([stamp], [fit], JOINT.settings)
    assert steep.objective < fit.objective - 3
    assert steep.theta[0, LOG_INDEX] > np.log(3)
    np.testing.assert_allclose(steep.total[:, 0], flux, rtol=0.03)
    assert steep.work > fit.work


def test_a_disk_with_a_bulge_stays_one() -> None:
    disk = galsim.Exponential(half_light_radius=0.9, flux=5e3)
    stamp, fit, flux = fitted(disk + galsim.DeVaucouleurs(half_light_radius=0.25, flux=5e3))
    assert has_large_bulge(fit, CONFIG).all()
    (same,) = try_steep([stamp], [fit], JOINT.settings)
    assert same.objective <= fit.objective
    assert same.theta[0, LOG_INDEX] < np.log(2)
    np.testing.assert_allclose(same.total[:, 0], flux, rtol=0.03)


def test_a_disk_is_not_tried() -> None:
    stamp, fit, _ = fitted(galsim.Exponential(half_light_radius=0.5, flux=3e3))
    assert not has_large_bulge(fit, CONFIG).any()
    assert try_steep([stamp], [fit], JOINT.settings) == [fit]
