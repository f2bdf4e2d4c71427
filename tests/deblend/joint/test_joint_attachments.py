"""What is seen of sources in the light of others, on galaxies drawn by GalSim."""

import galsim
import numpy as np
import pytest

from raydeblend.deblend.joint.attachments import (
    FEATURES,
    _along_circle,
    _body,
    _contrasts,
    _left,
    _mean_of_others,
    _mirrored,
    _valleys,
    attachments,
)
from raydeblend.deblend.joint.config import StructureConfig
from raydeblend.deblend.joint.crowds.light import images
from raydeblend.deblend.joint.crowds.patches import Patch
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.tile import Box

SCALE, SIZE = 0.168, 80
SEEING = galsim.Kolmogorov(fwhm=0.65)
PSF = np.stack([SEEING.drawImage(nx=41, ny=41, scale=SCALE).array] * 3)
COLORS = np.array([0.6, 1.0, 1.3])
JOINT = JointDeblender()


def observe(*parts, seeing=SEEING, seed=0):
    image = sum(
        galsim.Convolve(part, seeing).drawImage(nx=SIZE, ny=SIZE, scale=SCALE).array
        for part in parts
    )
    noise = np.random.default_rng(seed).normal(size=(3, SIZE, SIZE))
    return (image * COLORS[:, None, None] + noise).astype(np.float32)[None]


def test_what_is_seen_of_a_source_by_hand():
    """Two round Gaussians on one axis: contrast, part of the flux and distance are known."""
    host = galsim.Gaussian(sigma=0.8, flux=30000)
    other = galsim.Gaussian(sigma=0.4, flux=6000).shift(1.5, 0)
    seeing = galsim.Gaussian(sigma=0.28)
    psf = np.stack([seeing.drawImage(nx=41, ny=41, scale=SCALE).array] * 3)
    images = observe(host, other, seeing=seeing)
    ((stamp, found, _),) = JOINT.fits(images, np.ones_like(images), None, psf, SCALE)
    assert len(found.fit.theta) == 2
    patches = found.patches_of(stamp, JOINT.config.blocks)
    seen = attachments(stamp, found.fit, patches, StructureConfig())
    assert len(seen.source) == 1
    assert found.fit.total[:, seen.host[0]].sum() > found.fit.total[:, seen.source[0]].sum()
    feature = dict(zip(FEATURES, seen.features[0], strict=True))
    assert np.exp(feature["ln of the part of the host's flux"]) == pytest.approx(0.2, rel=0.05)
    # With the seeing the widths are s² + p²; the integral of two Gaussians is one of the sum.
    a, b = 0.64 + 0.28**2, 0.16 + 0.28**2
    own = 6000**2 / (4 * np.pi * b)
    under = 6000 * 30000 / (2 * np.pi * (a + b)) * np.exp(-(1.5**2) / (2 * (a + b)))
    assert np.exp(feature["ln contrast"]) == pytest.approx(own / under, rel=0.1)
    # There is no other, and the noise is 1 in each band.
    assert feature["ln contrast to all others"] == pytest.approx(feature["ln contrast"], abs=1e-3)
    alone = np.sqrt(30000**2 / (4 * np.pi * a) * SCALE**2 * (COLORS**2).sum())
    measured = np.exp(feature["ln signal to noise of the host, were it alone"])
    assert measured == pytest.approx(alone, rel=0.1)
    # One color, and a fit as good as the noise: next to nothing is seen of them.
    assert feature["ln of 1 + chi2 of the color"] < 1.5
    assert np.exp(feature["ln misfit of the host"]) < 0.02


def gaussian(x, y, flux, sigma=2.0):
    rows, columns = np.mgrid[:SIZE, :SIZE]
    square = (columns - x) ** 2 + (rows - y) ** 2
    light = flux / (2 * np.pi * sigma**2) * np.exp(-square / 2 / sigma**2)
    return np.float32(light * COLORS[:, None, None])


@pytest.mark.parametrize(("on_the_other_side", "expected"), [(0.0, 0.0), (500.0, 0.5)])
def test_what_is_mirrored_is_seen_on_the_other_side(on_the_other_side, expected):
    xy = np.array([[40.0, 38.0], [49.0, 43.0]])
    lights = [gaussian(*xy[0], 50000, 4), gaussian(*xy[1], 1000)]
    seen = sum(lights) + gaussian(31, 33, on_the_other_side)
    (stamp,), sigma = JOINT.make_stamps(
        seen[None], np.ones((1, 3, SIZE, SIZE), np.float32), None, PSF, SCALE
    )
    patches = [Patch.whole(light / sigma[0]) for light in lights]
    assert _mirrored(stamp, patches, xy, 1, 0) == pytest.approx(expected, abs=0.03)
    # Beyond the edge of the stamp there is nothing.
    small = Patch(Box(60, 60, 70, 70), np.ones((3, 10, 10), np.float32), np.ones((10, 10), bool))
    assert _mirrored(stamp, [patches[0], small], np.array([[5.0, 5.0], [65, 65]]), 1, 0) == 0


def test_an_arc_lies_along_the_circle_and_a_spoke_does_not():
    # Long in y (g1 < 0) beside the host is along the circle, above it not; and turned by 45°.
    offset = np.array([[3.0, 0.0], [0.0, 3.0], [2.0, 2.0], [2.0, 2.0]])
    shear = np.array([[-0.4, 0.0], [-0.4, 0.0], [0.0, -0.4], [0.4, 0.0]])
    np.testing.assert_allclose(_along_circle(offset, shear), [0.4, -0.4, 0.4, 0.0], atol=1e-12)


def test_between_two_galaxies_there_is_a_valley_and_not_before_an_arm():
    # Two equal Gaussians of sigma 2, ten pixels apart, have 2 exp(-5²/8) of their peak between.
    galaxies = gaussian(30, 40, 1000) + gaussian(40, 40, 1000)
    at, host = np.array([[40.0, 40.0]]), np.array([[30.0, 40.0]])
    assert np.exp(_valleys(galaxies, at, host)) == pytest.approx(2 * np.exp(-25 / 8), rel=0.02)
    arm = gaussian(30, 40, 20000, 6) + gaussian(40, 40, 500)
    assert _valleys(arm, at, host) == 0


def test_the_others_are_the_other_sources_that_are_attached_to_the_same_host():
    # The first is brightest; three lie in its light, one of them apart; the last in the second's.
    host = np.array([-1, 0, 0, 0, 1])
    attached = np.array([False, True, True, False, True])
    values = np.array([9.0, 1.0, 2.0, 4.0, 8.0])
    mean = _mean_of_others(values, host, attached, 5.0)
    assert mean[1:].tolist() == [2.0, 1.0, 1.5, 5.0]


def test_what_all_sources_leave_is_a_part_of_what_the_host_leaves():
    host, clump, rest = gaussian(40, 40, 50000, 4), gaussian(44, 40, 2000), gaussian(36, 40, 1000)
    noise = np.random.default_rng(0).normal(size=host.shape).astype(np.float32)
    seen = (host + clump + rest + noise)[None]
    (stamp,), sigma = JOINT.make_stamps(seen, np.ones_like(seen), None, PSF, SCALE)
    patch = Patch.whole(host / sigma[0])
    # The clump has twice the light of what no source has, and lies in the body as well.
    alone, left = ((clump + rest) ** 2).sum(), (rest**2).sum()
    part = _left(stamp, (host + clump) / sigma[0], patch, _body(stamp, patch))
    assert part == pytest.approx(left / alone, abs=0.02)
    assert _left(stamp, (host + clump + rest) / sigma[0], patch, _body(stamp, patch)) < 0.02


def test_the_host_is_the_brighter_one_whose_light_a_source_lies_in_most():
    rng = np.random.default_rng(3)
    boxes = [Box(y, x, y + 20, x + 24) for y, x in rng.integers(0, 56, (12, 2)).tolist()]
    lights = [rng.uniform(0, 1, (3, 20, 24)).astype(np.float32) for _ in boxes]
    patches = [Patch(box, own, own[0] > 0) for box, own in zip(boxes, lights, strict=True)]
    (stamp,), _ = JOINT.make_stamps(observe(galsim.Gaussian(0.5)), None, None, PSF, SCALE)
    whole = images(patches, stamp.image.shape).astype(np.float64)
    overlap = np.einsum("ibyx,jbyx,byx->ij", whole, whole, stamp.weight)
    flux = rng.uniform(1, 2, len(patches))
    contrast, host = _contrasts(stamp, patches, flux)
    for source, own in enumerate(host):
        others = np.where(flux > flux[source], overlap[source], -1)
        if source == flux.argmax():
            assert own == -1
        elif others.max() > 0:
            assert own == others.argmax()
            expected = np.clip(overlap[source, source] / others.max(), 0.05, 1e3)
            assert contrast[source] == pytest.approx(expected, rel=1e-5)
        else:
            assert contrast[source] == 1e3
