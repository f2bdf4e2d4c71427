"""Which sources of a joint fit go."""

import galsim
import numpy as np

from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.joint.evidence import are_one
from raydeblend.deblend.joint.find import fit_together
from raydeblend.deblend.joint.prune import drop_sources

SCALE, SIZE = 0.2, 48
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
PSF = SEEING.drawImage(nx=41, ny=41, scale=SCALE).array[None]
JOINT = JointDeblender.load("cpu")


def galaxy(x: float, y: float, flux: float, radius: float = 0.35) -> np.ndarray:
    profile = galsim.Exponential(half_light_radius=radius, flux=flux)
    middle = (SIZE - 1) / 2
    drawn = galsim.Convolve(profile, SEEING).drawImage(
        nx=SIZE, ny=SIZE, scale=SCALE, offset=(x - middle, y - middle)
    )
    return drawn.array


def fitted(image: np.ndarray, xy: list[list[float]]):
    """Return the stamp of an image in units of its noise, and the fit at positions."""
    images = (image + np.random.default_rng(0).normal(size=image.shape))[None, None]
    images = images.astype(np.float32)
    stamps, _ = JOINT.make_stamps(images, np.ones_like(images), None, PSF, SCALE)
    return stamps, fit_together(stamps, [np.array(xy)], JOINT.settings)


def kept(image: np.ndarray, xy: list[list[float]]) -> np.ndarray:
    stamps, fits = fitted(image, xy)
    (fit,) = drop_sources(stamps, fits, JOINT.settings)
    return fit.theta[np.argsort(-fit.total.sum(0)), :2]


def test_a_source_where_light_is_missing_goes_and_the_faint_one_stays() -> None:
    """Its flux is held at its least, which must not pass for a flux of no error."""
    pair = galaxy(16, 24, 3000) + galaxy(27, 24, 300)
    for xy in ([24.0, 10.0], [36.0, 36.0]):
        image = pair - 0.02 * galaxy(*xy, 3000)
        _, (fit,) = fitted(image, [[16, 24], [27, 24], xy])
        assert fit.snr[2] < 3 < fit.snr[1]
        left = kept(image, [[16, 24], [27, 24], xy])
        np.testing.assert_allclose(left, [[16, 24], [27, 24]], atol=0.5)


def test_of_two_sources_on_one_spot_one_goes_whatever_it_gains() -> None:
    """A lopsided galaxy: two profiles describe it much better than one, and are no two galaxies."""
    disk, nucleus = [24.0, 24.0], [24.6, 24.0]
    image = galaxy(*disk, 30000, 0.8) + galaxy(*nucleus, 15000, 0.05)
    stamps, (fit,) = fitted(image, [disk, nucleus])
    assert are_one(stamps[0], fit, JOINT.config.prune)
    _, (alone,) = fitted(image, [disk])
    assert alone.objective - fit.objective > 100
    assert len(kept(image, [disk, nucleus])) == 1


def test_a_close_pair_of_galaxies_is_not_one() -> None:
    xy = [[22.0, 24.0], [26.5, 24.0]]
    stamps, (fit,) = fitted(galaxy(*xy[0], 3000) + galaxy(*xy[1], 2000), xy)
    assert not are_one(stamps[0], fit, JOINT.config.prune)
    assert len(kept(galaxy(*xy[0], 3000) + galaxy(*xy[1], 2000), xy)) == 2
