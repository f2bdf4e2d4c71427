"""Sharp galaxies: fluxes, colors, sizes, the split, real stamps."""

from pathlib import Path

import galsim
import numpy as np
import pytest

from raydeblend.errors import ConfigError
from raydeblend.instruments import HST_BANDS, check_hst_bands, hst_psf
from raydeblend.simulate.sharp import BRIGHTEST, REAL, draw_sharp, hst_magnitudes, join, real_sharp

HST = Path(__file__).parents[3] / "shared" / "data" / "hst" / "galsim_cosmos_100"


def magnitudes(images: np.ndarray) -> np.ndarray:
    return 31.4 - 2.5 * np.log10(images.astype(float).sum(axis=(2, 3)))


def test_magnitudes_between_and_beyond_the_bands() -> None:
    flat = np.full((1, 6), 24.0)
    assert hst_magnitudes(flat, HST_BANDS) == pytest.approx(np.full((1, 7), 24.0))
    # Linear in ln(wavelength): exact inside, and 0.7 of the slope from i to y beyond.
    wavelength = np.log([368.0, 486.0, 625.0, 756.0, 870.0, 972.0])
    red = (24 - 1.5 * (wavelength - wavelength[3]))[None]
    found = hst_magnitudes(red, ("F606W", "F160W"))[0]
    assert found[0] == pytest.approx(24 - 1.5 * np.log(592.2 / 756))
    beyond = 1.5 * np.log(972 / 756) + 0.7 * 1.5 * np.log(1537 / 972)
    assert found[1] == pytest.approx(24 - beyond)


def test_drawn_galaxies() -> None:
    rng = np.random.default_rng(1)
    drawn = draw_sharp(120, HST_BANDS, rng, faint=25.0)
    assert drawn.images.shape == (120, 7, 72, 72)
    assert np.isfinite(drawn.images).all()
    found = magnitudes(drawn.images)
    assert (found[:, 2] > BRIGHTEST - 0.2).all()
    # Galaxies get redder in AB colors from the optical to the infrared, by about a magnitude.
    assert 0.3 < np.median(found[:, 2] - found[:, 6]) < 2.0
    assert 0.3 < np.median(found[:, 0] - found[:, 2]) < 2.0
    assert drawn.is_validation.sum() == 15


def test_the_psfs_are_as_wide_as_they_say() -> None:
    for band, expected in (("F775W", 0.11), ("F160W", 0.18)):
        seen = galsim.Convolve(hst_psf(band), galsim.Pixel(0.06))
        image = seen.drawImage(nx=151, ny=151, scale=0.01, method="no_pixel")
        assert image.calculateFWHM() == pytest.approx(expected, abs=0.02)


def test_bands_must_be_known() -> None:
    with pytest.raises(ConfigError, match="unknown HST band 'i'"):
        check_hst_bands(("F775W", "i"))


@pytest.mark.skipif(not HST.is_dir(), reason="needs ../shared/data")
def test_real_galaxies_become_fainter_and_smaller() -> None:
    rng = np.random.default_rng(2)
    real = real_sharp(60, str(HST), ("F606W", "F775W", "F160W"), rng)
    assert real.images.shape == (60, 3, 72, 72)
    assert (real.galaxy >= REAL).all()
    found = magnitudes(real.images)[:, 1]
    assert found.min() > 19.5
    assert found.max() < 25.7
    both = join([draw_sharp(8, real.bands, rng), real])
    assert len(both.galaxy) == 68
    # Every galaxy is on one side of the split, however many images it has.
    validation = set(both.galaxy[both.is_validation])
    assert not validation & set(both.galaxy[~both.is_validation])
