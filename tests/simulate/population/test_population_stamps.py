import galsim
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from raydeblend.errors import ConfigError
from raydeblend.simulate.population.draw import draw_smooth, with_images
from raydeblend.simulate.population.stamps import (
    SCALE,
    SPLITS,
    find_stamps,
    half_light,
    light_mask,
    load_stamps,
    with_wings,
)

N = 16
SIGMA = 8.0
"""Pixels, of round Gaussians, whose half-light radius is 1.1774 of it."""


def gaussian(x=0.0, y=0.0, size=129):
    grid_y, grid_x = np.indices((size, size)) - (size - 1) / 2
    square = (grid_x - x) ** 2 + (grid_y - y) ** 2
    return np.exp(-square / (2 * SIGMA**2)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Cutouts of a user's layout: round galaxies of 1e4 nJy with noise, one with a neighbor."""
    root = tmp_path_factory.mktemp("cutouts")
    rng, rows = np.random.default_rng(0), []
    for k in range(N):
        image = gaussian(2 * (k % 5), -k % 3) + (0.8 * gaussian(48, 5) if k == 1 else 0)
        image = 1e4 * image / gaussian().sum() + rng.normal(0, 0.3, image.shape)
        fits.writeto(root / f"{k}.fits", image.astype(np.float32))
        rows.append((k, "F814W", f"{k}.fits", SCALE, 31.4))
    table = Table(rows=rows, names=("galaxy", "band", "image", "pixel_scale", "zeropoint"))
    table.write(root / "catalog.csv")
    return str(root)


def test_size_and_magnitude_of_a_known_galaxy(folder):
    stamps = load_stamps(folder)
    assert len(stamps) == N
    np.testing.assert_allclose(stamps.r50, 1.1774 * SIGMA * SCALE, rtol=0.05)
    np.testing.assert_allclose(stamps.magnitude, 31.4 - 2.5 * 4, atol=0.06)
    assert stamps.red[0].sum() == pytest.approx(1, abs=1e-4)


def test_splits_share_no_galaxy(folder):
    parts = [set(find_stamps(folder, name).galaxy.tolist()) for name in SPLITS]
    assert sum(map(len, parts)) == N == len(set.union(*parts))
    assert all(parts)


def test_light_ends_where_the_noise_begins():
    rng = np.random.default_rng(1)
    image = 20 * gaussian() + rng.normal(0, 0.3, (129, 129)).astype(np.float32)
    mask = light_mask(image)
    assert mask[64, 64]
    assert not mask[:10].any()
    assert 0.95 < (mask * gaussian()).sum() / gaussian().sum() <= 1
    assert light_mask(np.zeros((64, 64), np.float32)) is None


def test_wings_continue_an_exponential_that_was_cut():
    """Cut at three scale lengths, a disk loses 4 e^-3 of its light; it is back to 5 %."""
    h, side = 8.0, 201
    y, x = np.indices((side, side)) - side // 2
    disk = np.exp(-np.hypot(y, x) / h)
    inside = np.hypot(y, x) < 3 * h
    whole = with_wings(np.where(inside, disk, 0).astype(np.float32), inside, h)
    assert (disk * inside).sum() / (2 * np.pi * h**2) == pytest.approx(1 - 4 * np.exp(-3), abs=0.02)
    assert whole.sum() / (2 * np.pi * h**2) == pytest.approx(1, abs=0.05)
    middle = whole[whole.shape[0] // 2]
    # No step along a row through the rim.
    assert np.abs(np.diff(np.log(middle[middle > 0.005]))).max() < 0.3


def test_half_light_radius_of_a_gaussian():
    assert half_light(gaussian()) == pytest.approx(1.1774 * SIGMA * SCALE, rel=0.03)


def test_an_image_takes_the_size_that_is_asked_for(folder):
    stamps = find_stamps(folder, "train")
    rng = np.random.default_rng(2)
    galaxies = draw_smooth(np.full(4, 21.0), ("g", "i"), rng)
    galaxies.r50[:] = 0.4
    real = with_images(galaxies, np.array([0, 2]), stamps, rng)
    assert real.kind.tolist() == ["real", "sersic", "real", "sersic"]
    assert np.isnan(real.index[[0, 2]]).all()
    drawn = real.profile(0, 1).drawImage(nx=201, ny=201, scale=0.03, method="no_pixel")
    assert drawn.array.sum() == pytest.approx(1, abs=0.01)
    moments = galsim.hsm.FindAdaptiveMom(drawn)
    # On the middle pixel, though images are cut along the light.
    assert (moments.moments_centroid.x, moments.moments_centroid.y) == pytest.approx(
        (101, 101), abs=0.7
    )
    assert drawn.calculateHLR() == pytest.approx(real.r50[0], rel=0.06)


def test_what_cannot_be_used_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="unknown split 'all'"):
        find_stamps(None, "all")
    with pytest.raises(ConfigError, match="no folder"):
        find_stamps(str(tmp_path / "none"), "train")
    assert len(find_stamps(None, "test")) == 0
