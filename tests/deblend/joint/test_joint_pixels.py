"""Stamps of the joint fit: the hidden core of a saturated star is seen, but not fitted."""

import numpy as np
import pytest

from raydeblend.deblend.joint.config import PixelConfig
from raydeblend.deblend.joint.pixels import make_stamps
from raydeblend.deblend.joint.search import first_peaks
from raydeblend.deblend.joint.seen_psf import psf_of_each
from raydeblend.deblend.preparation import prepare

SIDE, WIDTH, MIDDLE = 80, 1.8, (39.3, 40.2)
VARIANCE = 4.0


def gaussian(xy, side=SIDE):
    y, x = np.indices((side, side))
    return np.exp(-((x - xy[0]) ** 2 + (y - xy[1]) ** 2) / (2 * WIDTH**2))


def star():
    """A star with wings, a mask over its core and a trail that is wider, and its hidden light."""
    y, x = np.indices((SIDE, SIDE))
    radius = np.hypot(x - MIDDLE[0], y - MIDDLE[1])
    light = 5e4 * (gaussian(MIDDLE) + 0.1 / (1 + (radius / 4) ** 2) ** 2)
    mask = (radius < 5) | ((abs(x - MIDDLE[0]) < 6) & (abs(y - MIDDLE[1]) < 20))
    noise = np.sqrt(VARIANCE) * np.random.default_rng(1).standard_normal((2, SIDE, SIDE))
    image = np.where(mask, 0, light + noise).astype(np.float32)
    variance = np.broadcast_to(VARIANCE + light / 50, image.shape).astype(np.float32)
    return image[None], variance[None], np.broadcast_to(mask, image.shape)[None], light


def stamp_of(cores):
    image, variance, mask, _ = star()
    psf = np.stack([gaussian((10, 10), 21)] * 2)
    made = prepare(image, variance, mask)
    seen = psf_of_each(psf / psf.sum(axis=(1, 2), keepdims=True), image.shape)
    (stamp,) = make_stamps(made, variance, cores, seen, 0.168, PixelConfig())
    return stamp


def test_a_star_has_its_peak_where_the_hidden_light_is():
    *_, mask, light = star()
    cores = np.where(mask, light, 0).astype(np.float32)
    (xy,) = first_peaks(stamp_of(cores))
    assert xy == pytest.approx(MIDDLE, abs=0.2)


def test_without_it_there_are_peaks_beside():
    xy = first_peaks(stamp_of(None))
    assert np.hypot(*(xy - MIDDLE).T).min() > 3


def test_what_is_hidden_is_not_fitted():
    *_, mask, light = star()
    with_cores = stamp_of(np.where(mask, light, 0).astype(np.float32))
    without = stamp_of(None)
    np.testing.assert_array_equal(with_cores.image, without.image)
    np.testing.assert_array_equal(with_cores.weight, without.weight)
    assert not with_cores.weight[mask[0]].any()
