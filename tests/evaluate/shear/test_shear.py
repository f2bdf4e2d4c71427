"""The protocol `shear`: shapes with planted biases."""

import io

import numpy as np
import pyarrow as pa
import pytest
from in_process import catalogs_in_process
from matplotlib.image import imread

from raydeblend.evaluate.common.tables import to_markdown
from raydeblend.evaluate.shear.figures import bias_figure
from raydeblend.evaluate.shear.rows import ALL, PAIR, SINGLE, make_rows
from raydeblend.evaluate.shear.run import evaluate_shear
from raydeblend.evaluate.shear.scores import ShearTable, score_shear
from raydeblend.evaluate.shear.tables import shear_tables
from raydeblend.simulate.population.stamps import find_stamps
from raydeblend.simulate.rings import PAIRS, VIEWS, RingPlan, draw_rings
from raydeblend.survey import get_survey

N, SHEAR = 60, 0.02
EDGES = (21.0, 22.0, 23.0)
TURNED = np.exp(2j * np.deg2rad([0, 45, 90, 135]))
SHEARS = SHEAR * np.array([1, -1, 1j, -1j])


def planted(response, told, m=1, additive=0.0, anisotropy=0.0):
    """Shapes of `response` to shear (of pairs R ± A cos 4φ), of which the catalog tells `told`."""
    rng = np.random.default_rng(3)
    own = 0.3 * np.exp(2j * np.pi * rng.random((N, m)))[:, :, None, None] * TURNED[:, None]
    axis = rng.uniform(0, 2 * np.pi, N)[:, None] + np.deg2rad([0, 45, 90, 135])
    wave = anisotropy * np.cos(4 * axis)[:, None, :, None]
    g1 = own.real + (response + wave) * SHEARS.real + additive
    g2 = own.imag + (response - wave) * SHEARS.imag
    told = np.stack([told + wave + 0 * g1, told - wave + 0 * g1], axis=-1)
    half = np.arange(N)[:, None] < N // 2
    return ShearTable(
        magnitude=np.where(half, 21.5, 22.5) + np.zeros((N, m)),
        kind=np.full((N, m), "sersic"),
        separation=np.full(N, 0.8 if m == 2 else np.nan),
        axis=axis,
        g=np.stack([g1, g2], axis=-1),
        response=told,
        shear=SHEAR,
    )


def row(table, name=ALL, objects=SINGLE):
    rows = {r["galaxy"]: r for r in make_rows("planted", objects, table, EDGES, 0.1)}
    return rows[name]


def test_planted_biases_come_out():
    got = row(planted(0.8, 0.82, additive=0.003))
    assert got["n"] == N
    assert got["found"] == 1
    assert got["response"] == pytest.approx(0.82)
    for name in ("m", "m1", "m2"):
        assert got[f"{name}_raw"] == pytest.approx(-0.2)
        assert got[name] == pytest.approx(0.8 / 0.82 - 1)
    assert got["c1_raw"] == pytest.approx(0.003)
    assert got["c1"] == pytest.approx(0.003 / 0.82)
    assert got["c2"] == pytest.approx(0, abs=1e-12)


def test_bins_hold_their_own_galaxies():
    table = planted(0.9, 0.9)
    table.response[: N // 2] = 0.6
    assert row(table, "i 21–22")["m"] == pytest.approx(0.5)
    assert row(table, "i 22–23")["m"] == pytest.approx(0, abs=1e-9)
    assert row(table, "i 21–22")["n"] == N // 2


def test_what_is_missing_is_left_out_with_its_counterpart():
    table = planted(0.9, 0.9)
    table.g[0, 0, 2, 1] = np.nan
    got = row(table)
    assert got["found"] == pytest.approx(1 - 1 / N)
    assert got["m"] == pytest.approx(0, abs=1e-9)
    assert got["c1"] == pytest.approx(0, abs=1e-9)


def test_the_response_along_pairs_is_told_from_that_across():
    got = row(planted(0.9, 0.9, m=2, anisotropy=-0.06), objects=PAIR)
    # The orientations are random, so that cos² averages to a half only roughly.
    assert got["m_along_raw"] == pytest.approx(-0.16, abs=0.02)
    assert got["m_across_raw"] == pytest.approx(-0.04, abs=0.02)
    assert got["m_along"] == pytest.approx(0, abs=1e-9)
    assert got["m_raw"] == pytest.approx(-0.1)
    assert got["m1_raw"] == pytest.approx(got["m2_raw"], abs=1e-9)


def test_noise_is_in_the_intervals():
    table, rng = planted(0.9, 0.9), np.random.default_rng(4)
    noise = 0.01
    noisy = table.g + noise * rng.standard_normal(table.g.shape)
    got = row(ShearTable(**(vars(table) | {"g": noisy})))
    # Eight slopes of each object, each of two shapes.
    error = noise * np.sqrt(2) / (2 * SHEAR) / np.sqrt(8 * N) / 0.9
    assert (got["m_high"] - got["m_low"]) / 3.92 == pytest.approx(error, rel=0.2)
    assert abs(got["m"]) < 4 * error


def test_rows_are_matched_in_every_view():
    rings = draw_rings(get_survey("HSC"), ("i",), PAIRS, 6, 1, find_stamps(None, "test"))
    rng, tables = np.random.default_rng(0), []
    for view in range(VIEWS):
        xy = rings.xy(view).reshape(-1, 2) + rng.uniform(-0.3, 0.3, (12, 2))
        order = rng.permutation(12)[: 11 if view == 5 else 12]
        values = {
            "x": xy[order, 0],
            "y": xy[order, 1],
            "tile": [rings.grid.name(view)] * len(order),
        }
        numbers = (order + 100 * view).astype(float)
        values |= {"g1": numbers, "g2": -numbers, "R11": numbers / 2, "R22": numbers / 4}
        tables.append(pa.table(values))
    table = score_shear(pa.concat_tables(tables), rings)
    expected = np.arange(12).reshape(6, 2)[:, :, None] + 100 * np.arange(VIEWS)
    got = table.g.reshape(6, 2, VIEWS, 2)
    lost = np.isnan(got[..., 0])
    assert lost.sum() == 1
    assert lost[:, :, 5].sum() == 1
    np.testing.assert_array_equal(got[..., 0][~lost], expected[~lost])
    np.testing.assert_array_equal(
        table.response.reshape(6, 2, VIEWS, 2)[..., 1][~lost], expected[~lost] / 4
    )


def test_tables_and_figure_show_all():
    rows = make_rows("a", SINGLE, planted(0.9, 0.9), EDGES, 0.1)
    rows += make_rows("a", PAIR, planted(0.9, 0.9, m=2), EDGES, 0.1)
    text = to_markdown(shear_tables(rows))
    assert text.count("### ") == 3
    assert "0.6–1 arcsec" in text
    assert imread(io.BytesIO(bias_figure(rows))).std() > 0.05


def test_rings_through_the_pipeline(tmp_path):
    plan = {SINGLE: RingPlan(edges=(20.5, 21.0))}
    with catalogs_in_process():
        rows = evaluate_shear(("sep",), 4, 1, str(tmp_path), "HSC", plans=plan)
    (total,) = (r for r in rows if r["galaxy"] == ALL)
    assert (total["n"], total["found"]) == (4, 1)
    # Bright galaxies; sep's photometry has no responses.
    assert abs(total["m_raw"]) < 0.2
    assert np.isnan(total["m"])
