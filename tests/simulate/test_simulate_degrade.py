"""HST to HSC: the matching kernel against GalSim's convolutions, flux, noise."""

from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.io import fits

from raydeblend.errors import ConfigError
from raydeblend.simulate.degrade import (
    add_noise,
    blur,
    hsc_degradation,
    matching_kernel,
    rebin_sum,
)
from raydeblend.simulate.hst import load_hst, nominal_hst_psf
from raydeblend.survey import draw_psf, get_survey, psf_profile

SHARED = Path(__file__).parents[3] / "shared" / "data"
FINE, COARSE = 0.06, 0.18


def hsc_profile() -> galsim.GSObject:
    return psf_profile(get_survey("HSC"), "i")


def check_match(sharp: np.ndarray, target: np.ndarray) -> None:
    kernel = matching_kernel(sharp, target)
    found = blur(np.pad(sharp, 40).astype(np.float32), kernel)
    extra = (found.shape[0] - target.shape[0]) // 2
    middle = found[extra : extra + len(target), extra : extra + len(target)]
    assert np.abs(middle - target).max() < 0.01 * target.max()


def test_the_degraded_psf_is_that_of_hsc() -> None:
    check_match(nominal_hst_psf(FINE), draw_psf(hsc_profile(), FINE, 101))


def test_gaussians_have_a_gaussian_kernel() -> None:
    narrow, wide = (draw_psf(galsim.Gaussian(fwhm=f), FINE, 65) for f in (0.15, 0.6))
    # Without the pixel, which is in both: variances subtract.
    expected = galsim.Gaussian(fwhm=np.sqrt(0.6**2 - 0.15**2))
    truth = expected.drawImage(nx=65, ny=65, scale=FINE, method="no_pixel").array
    found = matching_kernel(narrow, wide)
    assert np.abs(found - truth / truth.sum()).max() < 0.01 * truth.max()


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
def test_the_real_psfs_of_cosmos_and_of_a_pair() -> None:
    stamps = load_hst(str(SHARED / "hst" / "galsim_cosmos_100"))
    for psf in stamps.psf[1:20:6]:
        check_match(psf, draw_psf(hsc_profile(), FINE, 101))
    # HST's at 0.03 arcsec; HSC's there by GalSim's interpolation from 0.168 arcsec.
    pair = SHARED / "hsc" / "hst_pairs"
    hst = np.asarray(fits.getdata(pair / "PSF_HST.fits"), dtype=np.float32)
    hsc = fits.getdata(pair / "PSF_HSC_pairC_1band.fits").astype(float)
    smooth = galsim.InterpolatedImage(galsim.Image(hsc), scale=0.168)
    target = smooth.drawImage(nx=111, ny=111, scale=0.03, method="no_pixel").array
    core = hst[40:141, 40:141]
    check_match(core / core.sum(), (target / target.sum()).astype(np.float32))


def test_a_degraded_galaxy_is_what_galsim_draws() -> None:
    """The galaxy seen through both PSFs, each pixel in its place."""
    optics = galsim.Gaussian(fwhm=0.1)
    galaxy = galsim.Exponential(half_light_radius=0.3, flux=1000.0).shear(g1=0.3, g2=0.1)
    sharp = galsim.Convolve(galaxy, optics).drawImage(nx=150, ny=150, scale=FINE).array
    low = hsc_degradation(draw_psf(optics, FINE, 41)).blurred(sharp)
    truth = galsim.Convolve(galaxy, hsc_profile()).drawImage(nx=50, ny=50, scale=COARSE).array
    assert np.abs(low - truth).max() < 0.01 * truth.max()


def test_flux_is_conserved() -> None:
    image = np.zeros((2, 150, 150), dtype=np.float32)
    image[0, 75, 75], image[1, 70:80, 60:70] = 100.0, 3.0
    low = hsc_degradation(nominal_hst_psf(FINE)).blurred(image)
    assert low.shape == (2, 50, 50)
    assert low.sum(axis=(1, 2)) == pytest.approx(image.sum(axis=(1, 2)), rel=1e-3)


def test_noise_at_the_surveys_depth() -> None:
    """5 sigma of HSC i in a 2 arcsec aperture is 26.2 for the Wide survey (Aihara et al. 2018).

    The tabulated exposure is that of the Wide survey; the aperture holds πr² / pixel² pixels.
    """
    degradation = hsc_degradation(nominal_hst_psf(FINE))
    noise = degradation(np.zeros((1, 600, 600), np.float32), np.random.default_rng(0))
    assert noise.std() == pytest.approx(degradation.sky_sigma, rel=0.02)
    depth = 31.4 - 2.5 * np.log10(5 * noise.std() * np.sqrt(np.pi) / COARSE)
    assert 25.5 < depth < 26.5


def test_photon_noise_of_bright_galaxies() -> None:
    bright = np.full((300, 300), 4e4, dtype=np.float32)
    noisy = add_noise(bright, 3.0, np.random.default_rng(1), electrons_per_njy=90.0)
    assert noisy.std() == pytest.approx(np.sqrt(9 + 4e4 / 90), rel=0.02)


def test_bad_psfs_are_refused() -> None:
    hst, hsc = nominal_hst_psf(FINE), draw_psf(hsc_profile(), FINE)
    with pytest.raises(ConfigError, match="odd"):
        matching_kernel(hst[1:], hsc)
    with pytest.raises(ConfigError, match="sharper"):
        matching_kernel(hsc, hst)
    with pytest.raises(ConfigError, match="cannot be rebinned"):
        rebin_sum(np.zeros((64, 64), np.float32), 3)
