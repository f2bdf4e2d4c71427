"""p_star: the shipped calibration on drawn stars and galaxies, and its file."""

import galsim
import numpy as np
import pytest
from galaxy_stamps import BANDS, draw_models, make_blend

from raydeblend.errors import ConfigError
from raydeblend.measure.point_sources import PointSources, measure_points
from raydeblend.pipeline.stars import read_stars, shipped_stars, write_stars
from raydeblend.survey import NJY_ZERO_POINT, get_survey, nominal_psf

SIZE, AT = 48, np.array([23.3, 23.1])
# g, r, i of an early M dwarf and of a galaxy at z = 0.5.
STAR_COLORS, GALAXY_COLORS = (2.0, 0.7, 0.0), (1.4, 0.6, 0.0)


def points(profile, magnitude, colors, n=8):
    """Measure copies of a source in the noise of HSC."""
    survey = get_survey("HSC")
    psf = [nominal_psf(survey, band) for band in BANDS]
    flux = 10 ** (0.4 * (NJY_ZERO_POINT - magnitude - np.array(colors)))
    light = draw_models([profile], psf, AT[None], flux[None], SIZE)[0]
    rng = np.random.default_rng(4)
    rows = []
    for _ in range(n):
        sigma = np.array([survey.band(band).sky_sigma for band in BANDS])[:, None, None]
        blend = make_blend(light + sigma * rng.normal(size=light.shape), 1.0, AT[None])
        blend.variance[:] = sigma**2
        rows.append(measure_points(blend, np.zeros((1, *light.shape)), AT[None], psf))
    names = PointSources.__dataclass_fields__
    return PointSources(*(np.concatenate([getattr(r, name) for r in rows]) for name in names))


@pytest.mark.parametrize("magnitude", [19.0, 21.5])
def test_a_bright_star_is_a_star_and_a_galaxy_is_none(magnitude):
    model = shipped_stars()
    star = points(galsim.DeltaFunction(), magnitude, STAR_COLORS)
    galaxy = points(galsim.Exponential(half_light_radius=0.4), magnitude, GALAXY_COLORS)
    assert np.all(model.p_star(star, BANDS) > 0.9)
    assert np.all(model.p_star(galaxy, BANDS) < 0.05)


def test_one_band_is_enough_for_a_bright_star():
    star = points(galsim.DeltaFunction(), 20.0, STAR_COLORS)
    alone = PointSources(star.flux[:, 2:], star.flux_err[:, 2:], *list(vars(star).values())[2:])
    p = shipped_stars().p_star(alone, ("i",))
    assert np.all(p > 0.5)


def test_a_source_that_no_band_shows_has_no_probability():
    nothing = PointSources(*np.full((2, 1, 3), np.nan), *np.full((2, 1), np.nan), np.ones(1))
    assert np.isnan(shipped_stars().p_star(nothing, BANDS)).all()


def test_a_calibration_comes_back_from_its_file(tmp_path):
    model = shipped_stars()
    path = str(tmp_path / "star.json")
    write_stars(path, model)
    star = points(galsim.DeltaFunction(), 22.0, STAR_COLORS, n=2)
    np.testing.assert_allclose(read_stars(path).p_star(star, BANDS), model.p_star(star, BANDS))


@pytest.mark.parametrize("text", ["", "{}", '{"sizes": {"mean": [1]}, "colors": {}, "card": {}}'])
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path, text):
    path = tmp_path / "star.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is not a calibration of stars"):
        read_stars(path)
    with pytest.raises(ConfigError, match="there is no file"):
        read_stars(tmp_path / "other.json")
