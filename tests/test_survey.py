import numpy as np
import pytest
import surveycodex

from raydeblend.errors import ConfigError
from raydeblend.survey import SURVEYS, draw_psf, get_survey, nominal_psf, psf_profile


@pytest.mark.parametrize("name", ["HSC", "LSST", "DES", "Euclid_VIS"])
def test_counts_and_sky_follow_from_zero_point_and_sky_brightness(name):
    """The definition: F / F(zero point) electrons per second; recomputed from the raw table."""
    source, survey = surveycodex.get_survey(name), get_survey(name)
    for band in survey.bands:
        table = source.get_filter(band.name)
        seconds = table.full_exposure_time.to_value("s")
        zero = table.zeropoint.value
        assert band.electrons_per_njy == pytest.approx(seconds * 10 ** (0.4 * (zero - 31.4)))
        sky = seconds * 10 ** (0.4 * (zero - table.sky_brightness.value)) * survey.pixel_scale**2
        assert band.sky_electrons == pytest.approx(sky, rel=0.01)
        assert band.sky_sigma == pytest.approx(np.sqrt(sky) / band.electrons_per_njy, rel=0.01)


def test_hsc_is_as_published():
    """Aihara et al. 2018: 0.168 arcsec pixels, median i seeing of 0.6 arcsec."""
    survey = get_survey("HSC")
    assert survey.pixel_scale == pytest.approx(0.168, abs=0.001)
    assert survey.band("i").psf_fwhm == pytest.approx(0.6, abs=0.03)
    assert [band.name for band in survey.bands] == ["g", "r", "i", "z", "y"]


def test_unknown_names_are_answered_with_the_known():
    with pytest.raises(ConfigError, match=r"unknown survey 'SDSSX'; known: .*HSC.*LSST"):
        get_survey("SDSSX")
    with pytest.raises(ConfigError, match="HSC has no band 'u'; its bands are g, r, i, z, y"):
        get_survey("HSC").band("u")
    assert "HSC" in SURVEYS


def test_psf_stamp_is_odd_normalized_and_as_wide_as_the_seeing():
    survey = get_survey("HSC")
    stamp = nominal_psf(survey, "i")
    assert stamp.shape == (41, 41)
    assert stamp.sum() == pytest.approx(1, abs=1e-6)
    assert np.unravel_index(stamp.argmax(), stamp.shape) == (20, 20)
    # Twelve times finer pixels, where the width at half maximum can be counted off.
    fine = draw_psf(psf_profile(survey, "i"), survey.pixel_scale / 12, size=241)
    above = (fine[120] > fine.max() / 2).sum() * survey.pixel_scale / 12
    assert above == pytest.approx(survey.band("i").psf_fwhm, rel=0.05)


def test_seeing_can_be_replaced():
    survey = get_survey("LSST")
    assert psf_profile(survey, "r", fwhm=1.4).calculateFWHM() == pytest.approx(1.4, rel=0.01)
