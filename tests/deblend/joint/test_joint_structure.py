"""What is structure of a galaxy and what its neighbor, on galaxies drawn by GalSim."""

import json

import galsim
import numpy as np
import pytest

from raydeblend.deblend.joint.config import StructureConfig
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.joint.structure import (
    galaxies_of,
    read_structure,
    shipped_structure,
    write_structure,
)
from raydeblend.errors import ConfigError

SCALE, SIZE = 0.168, 80
SEEING = galsim.Kolmogorov(fwhm=0.65)
PSF = np.stack([SEEING.drawImage(nx=41, ny=41, scale=SCALE).array] * 3)
COLORS = np.array([0.6, 1.0, 1.3])
JOINT = JointDeblender.load("cpu")


def observe(*parts, colors=COLORS, seed=0, seeing=SEEING):
    image = sum(
        galsim.Convolve(part, seeing).drawImage(nx=SIZE, ny=SIZE, scale=SCALE).array
        * color[:, None, None]
        for part, color in zip(parts, np.broadcast_to(colors, (len(parts), 3)), strict=True)
    )
    noise = np.random.default_rng(seed).normal(size=(3, SIZE, SIZE))
    return (image + noise).astype(np.float32)[None]


def deblend(images, joint=JOINT, **options):
    return joint(images, variance=np.ones_like(images), psf=PSF, pixel_scale=SCALE, **options)


def spiral(flux=30000, angles=(0.4, 1.9, 3.6, 5.2)):
    """A disk with clumps of its color, each of 8 % of the light of one with four."""
    disk = galsim.Exponential(half_light_radius=0.9, flux=0.68 * flux)
    clumps = [
        galsim.Gaussian(half_light_radius=0.15, flux=0.08 * flux).shift(
            1.1 * np.cos(angle), 0.9 * np.sin(angle)
        )
        for angle in angles
    ]
    return galsim.Sum([disk, *clumps])


@pytest.fixture(scope="module")
def clumpy():
    return observe(spiral())


def test_a_clumpy_galaxy_is_one_row_with_all_its_light(clumpy):
    fitted = deblend(clumpy, JointDeblender())
    assert fitted.n_sources[0] > 2
    result = deblend(clumpy)
    assert result.n_sources[0] == 1
    np.testing.assert_allclose(result.extra["flux"][0, 0], 30000 * COLORS, rtol=0.06)
    # The parts are added up, pixel by pixel too.
    np.testing.assert_allclose(result.models[0].sum(0), fitted.models[0].sum(0), atol=1e-3)


def test_a_lopsided_galaxy_lies_where_its_light_is_centered():
    # Clumps far apart, with none opposite, might be neighbors: these are an arm.
    galaxy = spiral(angles=(5.0, 5.7, 0.1, 0.9))
    result = deblend(observe(galaxy))
    assert result.n_sources[0] == 1
    center = (SIZE - 1) / 2 + np.array([galaxy.centroid.x, galaxy.centroid.y]) / SCALE
    shift, error = result.extra["shift"][0, 0], result.extra["position_cov"][0, 0]
    assert abs(shift[0]) > 0.4
    # Some of the arm's light is in the smooth disk, whose center moves less.
    np.testing.assert_allclose(result.xy[0, 0] + shift, center, atol=0.45)
    # Part of the light of the clumps may be another's.
    assert 0.03 * abs(shift[0]) < np.sqrt(error[0, 0]) < 0.2


def test_a_galaxy_of_one_part_lies_where_it_was_fitted():
    result = deblend(observe(galsim.Exponential(half_light_radius=0.5, flux=5000)))
    assert result.extra["shift"][0].tolist() == [[0.0, 0.0]]


def test_a_neighbor_of_another_color_stays():
    galaxy = galsim.Exponential(half_light_radius=0.6, flux=20000)
    other = galsim.Exponential(half_light_radius=0.4, flux=6000).shift(1.6, 0.5)
    result = deblend(observe(galaxy, other, colors=np.array([COLORS, COLORS[::-1]])))
    assert result.n_sources[0] == 2


def test_positions_that_are_given_stay_apart(clumpy):
    middle = (SIZE - 1) / 2
    given = [np.array([[middle, middle], [middle + 6, middle + 2]])]
    assert deblend(clumpy, xy=given).n_sources[0] == 2


def test_parts_of_parts_belong_to_the_brightest(clumpy):
    ((stamp, found, _),) = JOINT.fits(clumpy, np.ones((1, 3, SIZE, SIZE)), None, PSF, SCALE)
    patches = found.patches_of(stamp, JOINT.config.blocks)
    always = StructureConfig(min_probability=-1.0, max_contrast=np.inf)
    model = shipped_structure().trees
    galaxy = galaxies_of(stamp, found.fit, patches, model, always)
    assert set(galaxy) == {int(found.fit.total.sum(0).argmax())}
    never = StructureConfig(min_probability=2.0)
    assert galaxies_of(stamp, found.fit, patches, model, never).tolist() == list(range(len(galaxy)))


def test_the_calibration_comes_back_and_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / "structure.json"
    write_structure(str(path), shipped_structure())
    again = read_structure(path)
    np.testing.assert_allclose(again.trees.value, shipped_structure().trees.value)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"features": ["something else"]}))
    with pytest.raises(ConfigError, match="is not a calibration of structure"):
        read_structure(path)
    with pytest.raises(ConfigError, match="there is no file"):
        read_structure(tmp_path / "none.json")


def test_it_is_in_the_hash():
    assert JOINT.weights_hash != JointDeblender().weights_hash
    assert shipped_structure().sha256[:16] in JOINT.weights_hash
