"""Large galaxies: the body is one source whatever its arms are, and what lies on it stays."""

import galsim
import numpy as np
import pytest
from scipy import ndimage

from raydeblend.deblend.joint.bodies import broad_median, find_bodies, roughness
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.joint.stamp import squares

SCALE, SIZE = 0.168, 256
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
PSF = np.stack([SEEING.drawImage(nx=43, ny=43, scale=SCALE).array] * 2)
JOINT = JointDeblender.load("cpu")
MIDDLE = np.array([127.0, 129.0])
STAR, COMPANION = MIDDLE + np.array([42, 20]), MIDDLE + np.array([-60, 75])
BODY_FLUX, STAR_FLUX, COMPANION_FLUX = 8e5, 6e4, 6e3


def spiral(seed: int) -> galsim.GSObject:
    """An exponential disk 200 pixels wide with three logarithmic arms, knots on them, and a bulge.

    Drawn to where it ends, at 3.5 scale lengths.
    """
    rng = np.random.default_rng(seed)
    y, x = (np.indices((401, 401)) - 200) / 200
    x, y = x * np.cos(0.6) + y * np.sin(0.6), (y * np.cos(0.6) - x * np.sin(0.6)) / 0.75
    r = np.hypot(x, y)
    disk = np.exp(-3.5 * r) * np.clip((1 - r) / 0.1, 0, 1)
    wave = np.cos(3 * (np.arctan2(y, x) - np.log(r + 0.02) / 0.35))
    arms = disk * np.exp(1.5 * (wave - 1)) * np.clip(r / 0.15, 0, 1)
    knots = np.zeros(disk.size)
    np.add.at(
        knots, rng.choice(disk.size, 80, p=(arms / arms.sum()).ravel()), rng.lognormal(size=80)
    )
    knots = ndimage.gaussian_filter(knots.reshape(disk.shape), 2.0)
    light = disk + 1.5 * arms + 0.1 * disk.sum() * knots / knots.sum()
    drawn = galsim.InterpolatedImage(galsim.Image(light), scale=SCALE / 2)
    bulge = galsim.DeVaucouleurs(half_light_radius=0.8, flux=0.1)
    return drawn.withFlux(0.9) + bulge


def sky(*sources: tuple[galsim.GSObject, np.ndarray]) -> np.ndarray:
    """Return ``(2, y, x)`` of sources at places, with noise of 1."""
    image = galsim.Image(SIZE, SIZE, scale=SCALE, xmin=0, ymin=0)
    for profile, xy in sources:
        own = galsim.Convolve(profile, SEEING)
        own.drawImage(image, center=galsim.PositionD(*xy), add_to_image=True)
    noise = np.random.default_rng(3).normal(size=(2, SIZE, SIZE))
    return (image.array + noise).astype(np.float32)


def deblend(image: np.ndarray):
    return JOINT(image[None], np.ones_like(image[None]), None, PSF, pixel_scale=SCALE)


def stamp_of(image: np.ndarray):
    (stamp,), _ = JOINT.make_stamps(image[None], np.ones_like(image[None]), None, PSF, SCALE)
    return stamp


@pytest.mark.parametrize("seed", [1, 2])
def test_a_spiral_is_one_source_and_a_star_on_it_another(seed: int) -> None:
    star = galsim.DeltaFunction(flux=STAR_FLUX)
    companion = galsim.Exponential(half_light_radius=0.4, flux=COMPANION_FLUX)
    image = sky((spiral(seed).withFlux(BODY_FLUX), MIDDLE), (star, STAR), (companion, COMPANION))
    found = deblend(image)
    n = int(found.n_sources[0])
    xy, flux = found.xy[0, :n], found.extra["flux"][0, :n, 0]
    assert n <= 8
    assert np.hypot(*(xy[0] - MIDDLE)) < 3
    assert flux[0] == pytest.approx(BODY_FLUX, rel=0.02)
    at_star, at_companion = (np.hypot(*(xy - place).T) for place in (STAR, COMPANION))
    assert at_star.min() < 0.3
    assert flux[at_star.argmin()] == pytest.approx(STAR_FLUX, rel=0.02)
    assert at_companion.min() < 1
    assert flux[at_companion.argmin()] == pytest.approx(COMPANION_FLUX, rel=0.05)
    assert (flux > -3 * found.extra["flux_err"][0, :n, 0]).all()
    assert found.extra["has_body"][0]


def test_a_large_smooth_disk_keeps_its_light() -> None:
    disk = galsim.Exponential(half_light_radius=5.0, flux=5e5).shear(g1=0.2, g2=-0.1)
    found = deblend(sky((disk, MIDDLE)))
    assert found.n_sources[0] == 1
    flux, error = (found.extra[name][0, 0, 0] for name in ("flux", "flux_err"))
    assert flux == pytest.approx(5e5, rel=0.02)
    assert abs(flux - 5e5) < 4 * error


def test_small_galaxies_have_no_body() -> None:
    small = [
        (galsim.Exponential(half_light_radius=0.5, flux=2e4), MIDDLE + i * np.array([20, 11]))
        for i in range(-3, 4)
    ]
    assert find_bodies(stamp_of(sky(*small)), JOINT.settings) is None


def test_broad_arms_are_no_neighbors_but_many_bright_galaxies_are() -> None:
    disk = galsim.Exponential(half_light_radius=5.0, flux=0.7 * BODY_FLUX)
    angles = 2 * np.pi * np.arange(8) / 8
    places = MIDDLE + 45 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    arm = galsim.Gaussian(sigma=1.6, flux=0.04 * BODY_FLUX)
    member = galsim.Exponential(half_light_radius=0.5, flux=0.04 * BODY_FLUX)
    spiral, cluster = (
        stamp_of(sky((disk, MIDDLE), *((each, place) for place in places)))
        for each in (arm.shear(g1=0.5, g2=0), member)
    )
    assert find_bodies(spiral, JOINT.settings) is not None
    assert find_bodies(cluster, JOINT.settings) is None


def test_a_row_of_bright_galaxies_whose_wings_touch_has_no_body() -> None:
    """Their broad light is a band, which one profile of any size fits only far too wide."""
    galaxy = galsim.Sersic(4, half_light_radius=1.5, flux=1e5)
    places = [MIDDLE + i * np.array([56, 0]) for i in (-2, -1, 0, 1, 2)]
    image = sky(*((galaxy, place) for place in places))
    assert find_bodies(stamp_of(image), JOINT.settings) is None
    found = deblend(image)
    n = int(found.n_sources[0])
    xy, flux = found.xy[0, :n], found.extra["flux"][0, :n, 0]
    for place in places[1:-1]:
        nearest = np.hypot(*(xy - place).T).argmin()
        assert np.hypot(*(xy[nearest] - place)) < 0.5
        assert flux[nearest] == pytest.approx(1e5, rel=0.1)


def test_the_broad_median_follows_light_and_no_star() -> None:
    """A plane comes back as it is, where a point of light lies on it and where pixels lack."""
    y, x = np.indices((42, 50), dtype=np.float32)
    plane = np.stack([3 + 0.1 * x, 2 - 0.05 * y])
    usable = np.ones(plane.shape, dtype=bool)
    usable[:, 20:22, 30:33] = False
    image = np.where(usable, plane, np.float32(1e6))
    image[:, 12:15, 12:15] += 100
    found = broad_median(image, usable, JOINT.config.bodies)
    inner = (slice(None), slice(6, -6), slice(6, -6))
    # A median of squares on a slope is off by less than a square.
    assert np.abs(found - plane)[inner].max() < 0.1 * JOINT.config.bodies.square
    assert not broad_median(image, np.zeros_like(usable), JOINT.config.bodies).any()


@pytest.mark.parametrize("part", [0.1, 0.3])
def test_the_part_of_the_light_that_is_structure_is_measured(part: float) -> None:
    """A field of normal deviates as wide as the PSF, of known standard deviation behind it."""
    stamp = stamp_of(np.zeros((2, SIZE, SIZE), dtype=np.float32))
    y, x = np.indices((SIZE, SIZE))
    light = 100 * np.exp(-np.hypot(x - MIDDLE[0], y - MIDDLE[1]) / 40)
    waves = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=light.shape), 6.0)
    seen = ndimage.gaussian_filter(waves, stamp.width)
    image = np.stack([light * (1 + part * waves / seen.std())] * 2).astype(np.float32)
    body = np.stack([light] * 2).astype(np.float32)
    found = roughness(stamp.showing(image), body, stamp.weight, JOINT.config.bodies)
    assert found is not None
    assert np.median(found) == pytest.approx(part, rel=0.25)


def test_squares_hold_all_usable_pixels_once() -> None:
    weight = np.ones((2, 21, 30), dtype=np.float32)
    weight[:, 3, 5] = 0
    joined = np.ones((21, 30), dtype=bool)
    joined[:, 20:] = False
    pixels, starts = squares(weight, joined, 4)
    assert sorted(pixels) == np.flatnonzero(weight[0]).tolist()
    sizes = np.diff(starts, append=len(pixels))
    # 5 x 5 squares but the one with the hole; 15 pixels about it, a row below, 10 columns beside.
    assert (sizes == 16).sum() == 24
    assert (sizes == 1).sum() == 15 + 20 + 210
