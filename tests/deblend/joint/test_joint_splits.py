"""Which sources may be two, and that such pairs are found."""

import galsim
import numpy as np

from raydeblend.deblend.joint.crowds.separate import find_sources
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.joint.find import fit_together
from raydeblend.deblend.joint.search import add_sources
from raydeblend.deblend.joint.splits import split_scores

SCALE, SIZE = 0.2, 80
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
COLORS = np.array([0.6, 1.0, 1.3])
PSF = np.stack([SEEING.drawImage(nx=41, ny=41, scale=SCALE).array] * 3)
JOINT = JointDeblender.load("cpu")


def galaxy(x: float, y: float, flux: float, radius: float = 0.3, g1: float = 0.0) -> np.ndarray:
    profile = galsim.Exponential(half_light_radius=radius, flux=flux).shear(g1=g1, g2=0)
    middle = (SIZE - 1) / 2
    drawn = galsim.Convolve(profile, SEEING).drawImage(
        nx=SIZE, ny=SIZE, scale=SCALE, offset=(x - middle, y - middle)
    )
    return COLORS[:, None, None] * drawn.array


def fitted(image: np.ndarray, xy: list[list[float]]):
    """Return the stamp of an image with noise 1, and the fit of sources at positions."""
    noise = np.random.default_rng(3).normal(size=image.shape)
    images = (image + noise)[None].astype(np.float32)
    (stamp,), _ = JOINT.make_stamps(images, np.ones_like(images), None, PSF, SCALE)
    (fit,) = fit_together([stamp], [np.array(xy)], JOINT.settings)
    return stamp, fit


OFFSET = np.array([1.5, 0.0])


def scores(stamp, fit, offsets=None) -> np.ndarray:
    offsets = np.tile(OFFSET, (len(fit.theta), 1)) if offsets is None else offsets
    return split_scores(stamp, fit, offsets, JOINT.settings)


PAIR = galaxy(30.0, 40.0, 3000) + galaxy(32.4, 40.6, 1200, 0.2)
LONG = galaxy(60.0, 40.0, 3000, 0.4, g1=0.35)


def test_a_pair_fitted_as_one_promises_more_than_a_long_galaxy() -> None:
    stamp, fit = fitted(PAIR + LONG, [[30.5, 40.2], [60, 40]])
    pair, single = scores(stamp, fit)
    assert pair > 14
    assert single < 4
    assert scores(stamp, fit, np.array([0 * OFFSET, OFFSET])).tolist() == [0.0, single]
    assert not scores(stamp, fit, np.zeros((2, 2))).any()


def test_a_bright_pair_is_found_and_a_long_galaxy_is_not_split() -> None:
    """What must be gained over a bright galaxy is for the light under the fainter one."""
    image = galaxy(30.0, 40.0, 6000) + galaxy(32.2, 41.0, 900, 0.2) + LONG
    stamp, fit = fitted(image, [[30.3, 40.2], [60, 40]])
    assert fit.snr[0] > 400
    (found,), _ = add_sources([stamp], [fit], JOINT.settings)
    order = np.argsort(found.theta[:, 0])
    np.testing.assert_allclose(found.theta[order, :2], [[30, 40], [32.2, 41], [60, 40]], atol=0.4)


def test_in_a_crowd_the_pair_is_found_too() -> None:
    """More sources than go together: one pair among isolated round galaxies."""
    others = [[12.0 + 14 * i, 10.0 + 58 * j] for i in range(5) for j in range(2)]
    image = PAIR + sum(galaxy(*xy, 1500) for xy in others)
    noise = np.random.default_rng(3).normal(size=image.shape)
    images = (image + noise)[None].astype(np.float32)
    (stamp,), _ = JOINT.make_stamps(images, np.ones_like(images), None, PSF, SCALE)
    peaks = np.array([[30.5, 40.2], *others])
    assert len(peaks) > JOINT.config.blocks.max_joint_sources
    fit, _ = find_sources(stamp, peaks, JOINT.settings)
    expected = np.array([[30.0, 40.0], [32.4, 40.6], *others])
    distance = np.hypot(*(fit.xy[:, None] - expected).T)
    assert len(fit.theta) == len(expected)
    assert distance.min(1).max() < 0.5
