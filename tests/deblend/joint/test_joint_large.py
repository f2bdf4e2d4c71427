"""Large galaxies: their seen size, and fits that begin with it."""

import galsim
import numpy as np
import pytest

from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.joint.find import fit_together
from raydeblend.deblend.joint.large import seen_radii, try_large
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.parameters import BULGE_LOG_RADIUS, LOG_RADIUS

SCALE, SHAPE = 0.168, (128, 448)
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
PSF = np.stack([SEEING.drawImage(nx=43, ny=43, scale=SCALE).array] * 3)
JOINT = JointDeblender.load("cpu")
CONFIG = JOINT.config.large
PLACES = np.array([[70.0, 64.0], [224.0, 60.0], [380.0, 66.0]])


def stamp_of(*sources: tuple[galsim.GSObject, np.ndarray]) -> tuple[Stamp, float]:
    """Return the stamp of sources at places, with noise of 1, and the unit of its fluxes."""
    image = galsim.Image(SHAPE[1], SHAPE[0], scale=SCALE, xmin=0, ymin=0)
    for profile, xy in sources:
        own = galsim.Convolve(profile, SEEING)
        own.drawImage(image, center=galsim.PositionD(*xy), add_to_image=True)
    images = image.array + np.random.default_rng(1).normal(size=(1, 3, *SHAPE))
    images = images.astype(np.float32)
    (stamp,), unit = JOINT.make_stamps(images, np.ones_like(images), None, PSF, SCALE)
    return stamp, float(unit[0, 0, 0, 0])


@pytest.mark.parametrize("radius", [1.5, 3.0])
def test_the_seen_size_is_about_that_of_a_disk(radius: float) -> None:
    """What is hidden in the noise, and neighbors, change it by less than a third."""
    disk = galsim.Exponential(half_light_radius=radius, flux=2e5)
    stamp, _ = stamp_of(*((disk, place) for place in PLACES))
    found = seen_radii(stamp, PLACES, CONFIG) * SCALE
    np.testing.assert_allclose(found, radius, rtol=0.3)


def test_a_star_is_seen_without_size() -> None:
    stamp, _ = stamp_of((galsim.DeltaFunction(flux=1e5), PLACES[1]))
    assert seen_radii(stamp, PLACES[1:2], CONFIG)[0] < CONFIG.min_radius * stamp.width
    assert seen_radii(stamp, np.zeros((0, 2)), CONFIG).shape == (0,)


def test_three_large_galaxies_keep_their_light() -> None:
    """From usual sizes one takes the skirts of all as a bulge, and more than twice its flux."""
    bulge = galsim.DeVaucouleurs(half_light_radius=0.7, flux=0.4)
    first = (bulge + galsim.Exponential(half_light_radius=4.5, flux=0.6)).shear(g1=-0.35, g2=0.16)
    others = [galsim.Sersic(1.5, half_light_radius=r) for r in (3.0, 2.4)]
    fluxes = np.array([4e5, 2.5e5, 2.2e5])
    galaxies = [g.withFlux(f) for g, f in zip([first, *others], fluxes, strict=True)]
    stamp, unit = stamp_of(*zip(galaxies, PLACES, strict=True))
    (fit,) = fit_together([stamp], [PLACES], JOINT.settings)
    np.testing.assert_allclose(fit.total[0] * unit, fluxes, rtol=0.05)
    ratio = np.exp(fit.theta[:, BULGE_LOG_RADIUS] - fit.theta[:, LOG_RADIUS])
    assert (ratio < 2.5).all()


def test_small_galaxies_are_not_tried() -> None:
    disk = galsim.Exponential(half_light_radius=0.4, flux=2e3)
    stamp, _ = stamp_of((disk, PLACES[1]))
    fits = fit_together([stamp], [PLACES[1:2]], JOINT.settings)
    assert try_large([stamp], [PLACES[1:2]], fits, JOINT.settings) == fits
