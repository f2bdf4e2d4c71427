"""Galaxies under one sky: its noise, their flux, the split."""

from pathlib import Path

import numpy as np
import pytest

from raydeblend.simulate.sharp import REAL, SharpGalaxies
from raydeblend.simulate.sky_stamps import (
    SKY_SIGMA,
    SkyStamps,
    StampConfig,
    draw_stamps,
    make_stamps,
    own_noise,
    read_stamps,
)

HST = Path(__file__).parents[3] / "shared" / "data" / "hst"


def corner_sigma(images: np.ndarray) -> np.ndarray:
    return np.asarray(images[:, 0, :6, :6].astype(np.float64).std(axis=(1, 2)))


def test_drawn_stamps_have_the_sky_and_the_flux_that_they_should(tmp_path: Path) -> None:
    config = StampConfig(("F814W",), 64, 60, 24.5, 3, None)
    stamps = draw_stamps(config)
    assert stamps.images.shape == (60, 1, 64, 64)
    assert not stamps.noise.any()
    seen = stamps.under_sky(np.random.default_rng(0))
    assert np.median(corner_sigma(seen)) == pytest.approx(1, abs=0.1)
    # All are brighter than the faint limit, by the drawn colors at most a few tenths in F814W;
    # some flux lies outside the stamps.
    flux = stamps.images.astype(np.float64).sum(axis=(1, 2, 3)) * SKY_SIGMA
    magnitude = 31.4 - 2.5 * np.log10(flux)
    assert magnitude.max() < 25.2
    assert magnitude.min() > 18
    path = make_stamps(str(tmp_path), config)
    assert make_stamps(str(tmp_path), config) == path
    again = read_stamps(path)
    for name, values in vars(stamps).items():
        assert np.array_equal(getattr(again, name), values), name


def test_no_galaxy_is_in_two_parts() -> None:
    galaxy = np.repeat(np.arange(40), 2)
    stamps = SkyStamps(np.zeros((80, 1, 8, 8), np.float16), np.zeros(80, np.float32), galaxy)
    parts = [set(stamps.part(part).galaxy.tolist()) for part in ("test", "validation", "training")]
    assert [len(part) for part in parts] == [5, 5, 30]
    assert set.union(*parts) == set(range(40))


def test_the_noise_that_a_stamp_has_is_found_beside_its_galaxy() -> None:
    rng = np.random.default_rng(1)
    sigma = np.array([0, 0.3, 0.8, 3.0])
    images = rng.standard_normal((4, 1, 64, 64)) * sigma[:, None, None, None] * SKY_SIGMA
    images[:, :, 24:40, 24:40] += 500
    noise = own_noise(SharpGalaxies(images.astype(np.float16), np.arange(4), ("F814W",)))
    np.testing.assert_allclose(noise, [0, 0.3, 0.8, 1], rtol=0.1)


@pytest.mark.skipif(not HST.exists(), reason="no HST stamps in ../shared")
def test_real_galaxies_join_the_drawn_ones_under_the_same_sky() -> None:
    folder = HST / "btk_cosmos_26ext_100"
    stamps = draw_stamps(StampConfig(("F814W",), 64, 60, 24.5, 0, str(folder)))
    real = stamps.take(stamps.galaxy >= REAL)
    assert (len(stamps), len(real)) == (80, 20)
    assert real.noise.max() > 0.1
    sigma = corner_sigma(stamps.under_sky(np.random.default_rng(0)))
    assert np.median(sigma[60:]) == pytest.approx(1, abs=0.1)
