"""Blends of held-out galaxies: positions, light, noise, and what is recorded of each."""

from pathlib import Path

import numpy as np
import pytest

from raydeblend.errors import ConfigError
from raydeblend.instruments import FACTOR, HST_NOISE, coarse_psf
from raydeblend.simulate.hst import VALIDATION
from raydeblend.simulate.sharp_blends import (
    CHUNK,
    FAINT,
    SIDE,
    SharpBlends,
    SharpTest,
    band_psfs,
    degradation,
    draw_blends,
    read_real,
)

HST = Path(__file__).parents[3] / "shared" / "data" / "hst" / "btk_cosmos_26ext_100"


@pytest.fixture(scope="module")
def blends() -> SharpBlends:
    return draw_blends(24, 2, ("F775W",), np.random.default_rng(5))


def test_each_galaxy_is_where_it_is_said_to_be(blends: SharpBlends) -> None:
    y, x = np.indices((SIDE, SIDE))
    inside = (np.abs(blends.xy - SIDE / 2) < 12).all(axis=2)
    assert inside.sum() > 20
    for image, xy in zip(blends.isolated[inside][:, 0], blends.xy[inside], strict=True):
        near = np.hypot(x - xy[0], y - xy[1]) < 15
        light = np.where(near, image, 0).astype(float)
        centroid = [(light * axis).sum() / light.sum() for axis in (x, y)]
        assert centroid == pytest.approx(xy, abs=0.5)


def test_the_brightest_is_first_and_fluxes_are_those_of_the_magnitudes(blends: SharpBlends) -> None:
    assert (np.diff(blends.magnitude, axis=1) >= 0).all()
    assert blends.magnitude.max() < FAINT
    sigma = degradation("F775W").sky_sigma
    flux = blends.isolated[:, :, 0].sum(axis=(2, 3), dtype=float) * sigma
    found = 31.4 - 2.5 * np.log10(flux)
    # HST's band lies beside i, and light of the widest is off the stamp.
    assert np.median(found - blends.magnitude) == pytest.approx(0, abs=0.05)
    assert np.isfinite(blends.redshift).all()
    assert 0.1 < np.median(blends.fwhm) < 0.8


def test_the_low_image_has_the_light_and_the_noise(blends: SharpBlends) -> None:
    high = blends.isolated.sum(axis=1)[:, 0]
    low = blends.low[:, 0]
    assert low.shape == (24, SIDE // FACTOR, SIDE // FACTOR)
    total = low.sum(axis=(1, 2)) / high.sum(axis=(1, 2))
    # 484 pixels of unit noise are 22 of some hundred sky sigmas.
    bright = high.sum(axis=(1, 2)) > 500
    assert np.median(total[bright]) == pytest.approx(1, abs=0.1)
    corner = low[:, :3, :3]
    assert np.median(np.abs(corner - np.median(corner))) * 1.4826 == pytest.approx(1, rel=0.25)
    noise = blends.high[:, 0] - high
    assert noise.std() == pytest.approx(HST_NOISE, rel=0.02)


def test_the_separation_is_that_of_the_positions(blends: SharpBlends) -> None:
    expected = 0.06 * np.linalg.norm(blends.xy[:, 1] - blends.xy[:, 0], axis=1)
    assert blends.separation == pytest.approx(expected)
    # Two normal shifts of 6 pixels an axis: Rayleigh, median 1.177 · 8.5 pixels = 0.6 arcsec.
    assert 0.35 < np.median(blends.separation) < 0.85


def test_the_psf_is_as_wide_as_the_papers() -> None:
    psf = coarse_psf(size=41)
    assert psf.sum() == pytest.approx(1, abs=0.02)
    y, x = np.indices(psf.shape) - 20
    row = psf[20] / psf[20, 20]
    # Half of the maximum between 1 and 2 pixels of 0.18 from the center.
    assert row[21] > 0.5 > row[22]
    assert (psf * x).sum() == pytest.approx(0, abs=1e-3)
    assert (psf * y).sum() == pytest.approx(0, abs=1e-3)
    assert band_psfs(("F435W", "F160W")).shape == (2, 25, 25)


def test_chunks_do_not_depend_on_how_many_are_drawn() -> None:
    few, more = SharpTest(3, seed=2), SharpTest(CHUNK + 2, seed=2)
    assert [len(chunk) for chunk in (more.chunk(1), few.chunk(0))] == [2, 3]
    again = few.chunk(0)
    np.testing.assert_array_equal(few.chunk(0).low, again.low)
    assert not np.array_equal(again.low, SharpTest(3, seed=3).chunk(0).low)
    single = few.of(1).chunk(0)
    assert single.xy.shape == (3, 1, 2)
    assert (single.separation == 0).all()
    assert len(again[1:]) == 2


@pytest.mark.skipif(not HST.is_dir(), reason="needs ../shared/data")
def test_real_galaxies_are_those_never_trained_on() -> None:
    real = read_real(str(HST))
    assert (real.stamps.galaxy % VALIDATION == 0).all()
    assert np.isfinite(real.redshift).any()
    blends = draw_blends(6, 2, ("F775W",), np.random.default_rng(1), real)
    assert 0 < blends.is_real.sum() < 12
    assert np.isfinite(blends.low).all()


def test_a_folder_without_galaxies_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no usable HST galaxy"):
        read_real(str(tmp_path))
