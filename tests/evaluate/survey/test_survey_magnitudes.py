import io

import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from matplotlib.image import imread

from raydeblend.detect.matching import match_sky
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.figures import survey_figure
from raydeblend.evaluate.survey.magnitudes import magnitude_bins, magnitude_table
from raydeblend.evaluate.survey.scores import compare
from raydeblend.pictures import noise_level

BANDS = ("g", "i")
EDGES = (20.0, 22.0, 24.0)


def flux(magnitude):
    return 10 ** ((31.4 - np.asarray(magnitude, dtype=float)) / 2.5)


def table(ra, dec, magnitude, **more):
    columns = {"flux_g": flux(magnitude) / 2, "flux_i": flux(magnitude)}
    columns |= dict.fromkeys(("g1", "g2"), np.zeros(len(ra)))
    return pa.table({"ra": ra, "dec": dec, **columns, **more})


def grid(n=20, ra=0.0, dec=-5.0, step=6.0):
    """n x n sources `step` arcsec apart, across ra = 0; magnitudes 21 and 23 by turns."""
    x, y = np.meshgrid(np.arange(n) - n / 2, np.arange(n) - n / 2)
    center = SkyCoord(ra, dec, unit="deg")
    place = center.spherical_offsets_by(x.ravel() * step * u.arcsec, y.ravel() * step * u.arcsec)
    return place.ra.deg, place.dec.deg, np.where(np.arange(n * n) % 2 == 0, 21.0, 23.0)


def truth_table(ra, dec, magnitude, stars=None):
    is_star = np.zeros(len(ra), bool) if stars is None else stars
    return table(ra, dec, magnitude, is_star=is_star, half_light_radius=np.full(len(ra), 0.4))


def catalog_table(ra, dec, magnitude, primary=None):
    is_primary = np.ones(len(ra), bool) if primary is None else primary
    names = ("flux_err_g", "flux_err_i", "p_unrecognized_blend", "p_bad")
    more = dict.fromkeys(names, np.full(len(ra), np.nan))
    more |= {"flags": np.zeros(len(ra), np.int32), "quality": ["isolated"] * len(ra)}
    return table(ra, dec, magnitude, is_primary=is_primary, **more)


def score_catalog(catalog, truth):
    return magnitude_bins(*compare(catalog, truth, BANDS), BANDS, EDGES)


def test_a_perfect_catalog():
    sky = grid()
    rows = score_catalog(catalog_table(*sky), truth_table(*sky))
    assert [(row.low, row.high) for row in rows] == [(20, 22), (22, 24), (20, 24)]
    assert all((row.completeness, row.purity, row.duplicates) == (1, 1, 0) for row in rows)
    assert rows[-1].n_catalog == 400
    assert rows[-1].bias == {"g": pytest.approx(0, abs=1e-9), "i": pytest.approx(0, abs=1e-9)}
    # 19 steps of 6 arcsec on a side.
    assert rows[-1].density == pytest.approx(400 / 1.9**2, rel=1e-3)


def test_incomplete_spurious_duplicate_biased_and_null():
    ra, dec, magnitude = grid()
    inner = (np.arange(400) // 20 > 0) & (np.arange(400) // 20 < 19)
    lost = inner & (magnitude == 23) & (np.arange(400) % 4 == 1)
    kept = np.flatnonzero(~lost)
    extra_ra = np.concatenate([ra[kept], ra[kept[100:105]], ra[kept[100:103]]])
    extra_dec = np.concatenate([dec[kept], dec[kept[100:105]] + 0.3 / 3600, dec[kept[100:103]]])
    extra_dec[-3:] += 2.5 / 3600
    bright = np.concatenate([magnitude[kept], np.full(8, 23.0)])
    catalog = catalog_table(extra_ra, extra_dec, bright)
    fluxes = catalog["flux_i"].to_numpy() * np.where(bright == 21, 1.1, 0.8)
    nulls = pa.array(fluxes, mask=np.arange(len(fluxes)) == 0)
    catalog = catalog.set_column(catalog.column_names.index("flux_i"), "flux_i", nulls)
    rows = score_catalog(catalog, truth_table(ra, dec, magnitude))
    assert rows[0].completeness == 1
    assert rows[1].completeness == pytest.approx(1 - lost.sum() / 200, abs=0.03)
    assert rows[1].duplicates == 5
    assert rows[1].purity == pytest.approx(1 - 8 / rows[1].n_catalog)
    assert rows[0].bias["i"] == pytest.approx(0.1)
    assert rows[1].bias["i"] == pytest.approx(-0.2)
    assert rows[1].scatter["i"] == pytest.approx(0, abs=1e-9)


def test_stars_are_real_but_not_galaxies_and_copies_do_not_count():
    ra, dec, magnitude = grid()
    stars = magnitude == 21
    twice = [np.concatenate([a, a]) for a in (ra, dec, magnitude)]
    catalog = catalog_table(*twice, primary=np.arange(800) < 400)
    rows = score_catalog(catalog, truth_table(ra, dec, magnitude, stars))
    assert rows[0].n_true == 0
    assert np.isnan(rows[0].completeness)
    assert rows[0].n_catalog == 200
    assert rows[0].purity == 1
    assert rows[0].duplicates == 0


def test_truth_outside_the_catalog_does_not_count():
    ra, dec, magnitude = grid()
    inside = np.abs(dec + 5) < 33 / 3600
    catalog = catalog_table(ra[inside], dec[inside], magnitude[inside])
    rows = score_catalog(catalog, truth_table(ra, dec, magnitude))
    assert 0.8 * inside.sum() <= rows[-1].n_true <= inside.sum()
    assert rows[-1].completeness == 1


def test_the_brightest_chooses_first_and_the_rest_takes_what_is_free():
    true = np.array([[0.0, 0.0], [0.3, 0.0], [5.0, 5.0]])
    found = np.array([[0.2, 0.0], [0.45, 0.0]])
    assert match_sky(true, np.array([10.0, 1.0, 5.0]), found, 0.5).tolist() == [0, 1, -1]
    assert match_sky(true, np.array([10.0, 1.0, 5.0]), found[:1], 0.5).tolist() == [0, -1, -1]


def test_a_catalog_without_primary_source_is_refused():
    sky = grid(2)
    catalog = catalog_table(*sky, primary=np.zeros(4, bool))
    with pytest.raises(ConfigError, match="no primary source"):
        score_catalog(catalog, truth_table(*sky))


def test_table_has_one_line_per_bin():
    sky = grid(4)
    shown = magnitude_table(score_catalog(catalog_table(*sky), truth_table(*sky)))
    assert [row[0] for row in shown.rows] == ["20–22", "22–24", "20–24"]
    assert "bias g" in shown.header
    assert len(magnitude_bins(*compare(catalog_table(*sky), truth_table(*sky), BANDS), BANDS)) == 10


def test_survey_figure_is_a_png():
    rng = np.random.default_rng(0)
    tile, blend = rng.normal(size=(3, 100, 90)), rng.normal(size=(3, 48, 48))
    png = survey_figure(tile, np.array([[5, 6.0]]), blend, blend[None] / 2, np.array([[24, 24.0]]))
    picture = imread(io.BytesIO(png))
    assert picture.shape[:2] == (945, 1500)
    assert noise_level(rng.normal(0, 7, (3, 200, 200))) == pytest.approx(7, rel=0.03)
