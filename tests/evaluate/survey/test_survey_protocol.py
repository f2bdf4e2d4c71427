"""The protocol `survey`: catalogs with planted faults against a known sky."""

import io
import json

import galsim
import numpy as np
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from in_process import catalogs_in_process
from matplotlib.image import imread

from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.request import Request
from raydeblend.evaluate.common.tables import to_markdown
from raydeblend.evaluate.protocol import run_evaluation
from raydeblend.evaluate.survey.figures import reliability_figure, residuals_figure, trends_figure
from raydeblend.evaluate.survey.rows import (
    ALL,
    MAGNITUDE,
    PAIRS,
    QUALITY,
    intercept,
    make_rows,
    pair_rows,
    slope_bias,
)
from raydeblend.evaluate.survey.run import SurveyScores
from raydeblend.evaluate.survey.scores import (
    compare,
    gaussian_blendedness,
    nearest_neighbor,
)
from raydeblend.evaluate.survey.tables import survey_tables
from raydeblend.simulate.tiles import simulate_tiles

BANDS = ("g", "i")
N = 900
SHIFT = (0.03, -0.02)
"""Arcsec east and north of every catalog position."""


def flux(magnitude):
    return 10 ** ((31.4 - np.asarray(magnitude, dtype=float)) / 2.5)


def sky(n=N, step=10.0):
    """Galaxies `step` arcsec apart, across ra = 0, each a bit off the grid."""
    rng, side = np.random.default_rng(1), int(np.sqrt(n))
    x, y = (g.ravel() * step for g in np.meshgrid(np.arange(side), np.arange(side)))
    return place(x + rng.uniform(-1, 1, n), y + rng.uniform(-1, 1, n))


def place(x, y):
    center = SkyCoord(0.0, 30.0, unit="deg")
    points = center.spherical_offsets_by((x - 150) * u.arcsec, (y - 150) * u.arcsec)
    return points.ra.deg, points.dec.deg


def truth_table(ra, dec, magnitude, seed=2):
    rng = np.random.default_rng(seed)
    n = len(ra)
    return pa.table(
        {
            "ra": ra,
            "dec": dec,
            "is_star": np.zeros(n, bool),
            "flux_g": flux(magnitude) / 2,
            "flux_i": flux(magnitude),
            "half_light_radius": np.full(n, 0.4),
            "g1": rng.uniform(-0.5, 0.5, n),
            "g2": rng.uniform(-0.5, 0.5, n),
        }
    )


def catalog_table(truth, rows, error=0.0, sigma=0.1, shear=(1.0, 0.0), shift=SHIFT, p=np.nan):
    """A catalog of some rows of the truth, with flux errors and shapes as planted."""
    moved = SkyCoord(truth["ra"].to_numpy()[rows], truth["dec"].to_numpy()[rows], unit="deg")
    moved = moved.spherical_offsets_by(shift[0] * u.arcsec, shift[1] * u.arcsec)
    columns = {"ra": moved.ra.deg, "dec": moved.dec.deg, "is_primary": np.ones(len(rows), bool)}
    for band in BANDS:
        true = truth[f"flux_{band}"].to_numpy()[rows]
        columns[f"flux_{band}"] = true * (1 + error)
        columns[f"flux_err_{band}"] = true * sigma
    for g in ("g1", "g2"):
        columns[g] = truth[g].to_numpy()[rows] * shear[0] + shear[1]
    p_blend = np.broadcast_to(np.asarray(p, dtype=float), (len(rows),))
    columns["p_unrecognized_blend"] = pa.array(p_blend, from_pandas=True)
    columns["p_bad"] = pa.nulls(len(rows), pa.float64())
    columns["flags"] = np.where(np.arange(len(rows)) % 3 == 0, 8, 0).astype(np.int32)
    columns["quality"] = np.where(np.arange(len(rows)) % 2 == 0, "high", "low").tolist()
    return pa.table(columns)


@pytest.fixture(scope="module")
def planted():
    """Bright ones all there and exact; the faint lose a third, and are off by N(0.05, 0.2)."""
    rng = np.random.default_rng(3)
    magnitude = np.where(np.arange(N) % 2 == 0, 22.5, 24.2)
    truth = truth_table(*sky(), magnitude)
    faint = np.flatnonzero(magnitude == 24.2)
    lost = rng.choice(faint, 150, replace=False)
    rows = np.setdiff1d(np.arange(N), lost)
    error = np.where(magnitude[rows] == 24.2, rng.normal(0.05, 0.2, len(rows)), 0.0)
    catalog = catalog_table(truth, rows, error, sigma=0.1, shear=(0.9, 0.01))
    return catalog, truth, error, magnitude[rows] == 24.2


def rows_by(rows, kind):
    return {row["galaxy"]: row for row in rows if row["n_galaxies"] == kind}


def test_planted_faults_come_out(planted):
    catalog, truth, error, faint = planted
    rows = make_rows("planted", *compare(catalog, truth, BANDS), BANDS, 0.5)
    bins = rows_by(rows, MAGNITUDE)
    bright, dim = bins["magnitude 22–23"], bins["magnitude 24–24.5"]
    assert bright["found"] == 1
    assert bright["flux_bias"] == pytest.approx(0, abs=1e-7)
    # The edge of the catalog hides some truths; not more than those of the outer rows.
    assert 380 <= dim["n"] <= 450
    assert dim["found"] == pytest.approx(2 / 3, abs=0.04)
    assert dim["flux_bias"] == pytest.approx(np.median(error[faint]), abs=0.02)
    assert dim["flux_nmad_g"] == pytest.approx(0.2, rel=0.15)
    assert dim["pull_nmad_i"] == pytest.approx(2.0, rel=0.15)
    assert dim["pull_bias_i"] == pytest.approx(0.5, abs=0.2)
    assert dim["flux_bias_low"] < dim["flux_bias"] < dim["flux_bias_high"]
    everything = rows_by(rows, ALL)["magnitude < 24.5"]
    assert everything["offset_east_mas"] == pytest.approx(30, abs=0.1)
    assert everything["offset_north_mas"] == pytest.approx(-20, abs=0.1)
    assert everything["position_nmad_mas"] == pytest.approx(0, abs=0.1)
    for name, value in (("m1", -0.1), ("c1", 0.01), ("m2", -0.1), ("c2", 0.01)):
        assert everything[f"shape_{name}"] == pytest.approx(value, abs=1e-6), name
    assert everything["n_catalog"] == np.sum(catalog["flux_i"].to_numpy() > flux(24.5))
    assert (everything["purity"], everything["duplicates"]) == (1, 0)


def test_catastrophes_are_counted_by_flag_and_quality():
    """Every fifth flux is twice the truth at 10 % errors; every third row is flagged."""
    truth = truth_table(*sky(), np.full(N, 22.5))
    rows = np.arange(N)
    # Off by 60 %, but 4 sigma only, is no catastrophe; nor is 6 sigma of 3 %.
    error = np.where(rows % 5 == 0, 1.0, np.where(rows % 5 == 1, 0.45, 0.0))
    catalog = catalog_table(truth, rows, error, sigma=0.1)
    galaxies, detections = compare(catalog, truth, BANDS)
    made = make_rows("planted", galaxies, detections, BANDS, 0.1)
    total = rows_by(made, ALL)["magnitude < 24.5"]
    inner = galaxies.error[:, -1] > 0.9
    assert total["catastrophic"] == pytest.approx(inner.mean())
    assert total["catastrophic"] == pytest.approx(0.2, abs=0.01)
    assert total["catastrophic_flagged"] == pytest.approx((inner & galaxies.flagged).mean())
    assert total["catastrophic_flagged"] + total["catastrophic_unflagged"] == pytest.approx(
        total["catastrophic"]
    )
    qualities = rows_by(made, QUALITY)
    assert set(qualities) == {"high", "low"}
    assert qualities["high"]["catastrophic"] == pytest.approx(0.2, abs=0.02)
    assert total["spurious"] == 0


def test_close_pairs_are_sorted_by_distance():
    x = np.concatenate([30.0 * np.arange(20), 30.0 * np.arange(20) + np.linspace(0.25, 1.4, 20)])
    truth = truth_table(*place(x, np.zeros(40)), np.full(40, 22.0))
    galaxies, _ = compare(catalog_table(truth, np.arange(40), 0.1), truth, BANDS)
    rows = rows_by(pair_rows("planted", galaxies, BANDS, 0.1), PAIRS)
    assert list(rows)[:3] == ['separation 0.2–0.35"', 'separation 0.35–0.5"', 'separation 0.5–0.7"']
    # Linear steps of 0.0605 arcsec; the rectangle that the catalog covers may lack the outermost.
    assert rows['separation 0.35–0.5"']["n"] == 2 * 3
    assert rows['separation 0.5–0.7"']["flux_bias"] == pytest.approx(0.1)


def test_the_line_through_shapes_is_least_squares():
    rng = np.random.default_rng(0)
    x = rng.normal(size=50)
    y = 0.8 * x + 0.02 + rng.normal(0, 0.1, 50)
    slope, zero = np.polyfit(x, y, 1)
    pairs = np.stack([x, y], axis=-1)
    assert slope_bias(pairs) == pytest.approx(slope - 1)
    assert intercept(np.stack([pairs, pairs]))[1] == pytest.approx(zero)


def test_blendedness_is_that_of_drawn_gaussians():
    position = np.array([[0.0, 0.0], [1.0, 0.5], [8.0, 8.0]])
    brightness, width = np.array([100.0, 30.0, 50.0]), np.array([0.5, 0.8, 0.6])
    scale = 0.1
    images = np.stack(
        [
            galsim.Gaussian(sigma=s, flux=f)
            .drawImage(nx=301, ny=301, scale=scale, offset=xy / scale, method="no_pixel")
            .array
            for xy, f, s in zip(position, brightness, width, strict=True)
        ]
    ).astype(float)
    total = images.sum(axis=0)
    drawn = [1 - (image**2).sum() / (image * total).sum() for image in images]
    found = gaussian_blendedness(position, brightness, width)
    np.testing.assert_allclose(found, drawn, atol=1e-4)
    assert found[1] > 0.5
    assert found[2] < 1e-6


def test_faint_sources_are_no_neighbors():
    position = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 5.0]])
    distance = nearest_neighbor(position, np.array([100.0, 5.0, 40.0]))
    np.testing.assert_allclose(distance, [5, 2, 5])
    assert np.isinf(nearest_neighbor(position[:1], np.ones(1))).all()


def test_an_undetected_neighbor_makes_a_blend():
    # Pairs 0.8" apart: the second one 0.2 of the first, or 0.05, or detected, or 1.5" away.
    x = np.array([0, 0.8, 30, 30.8, 60, 60.8, 90, 91.5, 120])
    ratio = np.array([1, 0.2, 1, 0.05, 1, 0.2, 1, 0.5, 1])
    truth = truth_table(
        *place(x, np.linspace(0, 100, 9)[[0, 0, 2, 2, 4, 4, 6, 6, 8]]), np.full(9, 22.0)
    )
    scaled = {f"flux_{b}": truth[f"flux_{b}"].to_numpy() * ratio for b in BANDS}
    for name, values in scaled.items():
        truth = truth.set_column(truth.column_names.index(name), name, pa.array(values))
    catalog = catalog_table(truth, np.array([0, 2, 4, 5, 6, 8]))
    _, detections = compare(catalog, truth, BANDS)
    assert detections.unrecognized.tolist() == [True, False, False, False, False, False]


def test_tables_and_figures_show_all(planted):
    catalog, truth, _, _ = planted
    p = pa.array(np.linspace(0, 1, len(catalog)))
    with_p = catalog.set_column(
        catalog.column_names.index("p_unrecognized_blend"), "p_unrecognized_blend", p
    )
    scores = [
        SurveyScores(n, *compare(c, truth, BANDS)) for n, c in (("a", catalog), ("b", with_p))
    ]
    rows = [r for s in scores for r in make_rows(s.deblender, s.galaxies, s.detections, BANDS, 0.1)]
    text = to_markdown(survey_tables(rows, scores, "i"))
    assert text.count("### ") == 7
    assert "a states no p_bad" in text
    assert "a states no p_unrecognized_blend" in text
    assert "| 0.85–1" in text.split("b:")[-1]
    assert "-0.100 ±0.000" in text
    figures = trends_figure(rows, "i"), residuals_figure(scores, "i"), reliability_figure(scores)
    for png in figures:
        assert imread(io.BytesIO(png)).std() > 0.05
    assert reliability_figure(scores[:1]) is None


def test_real_tiles_through_the_pipeline(tmp_path):
    tiles, out = str(tmp_path / "tiles"), tmp_path / "scores"
    simulate_tiles(tiles, "HSC", ("g", "r", "i"), n_tiles=1, size=160, seed=3)
    with catalogs_in_process():
        evaluation = run_evaluation(Request("survey", (), tiles, None, str(out)))
    rows = json.loads((out / "metrics.json").read_text())
    total = next(row for row in rows if row["n_galaxies"] == ALL)
    assert (total["protocol"], total["deblender"]) == ("survey", "sep")
    assert total["found"] > 0.5
    assert (out / "tables.md").read_text() == evaluation.tables
    assert {"trends.png", "residuals.png", "catalogs"} <= {path.name for path in out.iterdir()}


def test_tiles_without_truth_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no truth\.parquet"):
        run_evaluation(Request("survey", ("sep",), str(tmp_path), None, str(tmp_path / "out")))
