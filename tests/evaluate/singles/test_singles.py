"""The protocol `singles`: catalogs with planted faults against a known grid."""

import io

import numpy as np
import pyarrow as pa
import pytest
from in_process import catalogs_in_process
from matplotlib.image import imread

from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.request import Request
from raydeblend.evaluate.common.tables import to_markdown
from raydeblend.evaluate.protocol import run_evaluation
from raydeblend.evaluate.singles.figures import classes_figure, gallery_figures
from raydeblend.evaluate.singles.rows import CLASS, make_rows, ordered
from raydeblend.evaluate.singles.scores import score_singles
from raydeblend.evaluate.singles.tables import singles_tables
from raydeblend.simulate.singles import SinglesPlan
from raydeblend.simulate.tiles import simulate_singles

BANDS = ("g", "i")
STEP = 64
SCALE = 0.168
N = 12


def sky(x, y):
    """Small offsets from the equator, where a tangent plane is flat to a part in 1e8."""
    return 150 - np.asarray(x) * SCALE / 3600, np.asarray(y) * SCALE / 3600


def truth_table():
    column, row = np.divmod(np.arange(N), 4)
    x, y = STEP * (column + 0.5), STEP * (row + 0.5)
    ra, dec = sky(x, y)
    flux = 10 ** (0.4 * (31.4 - np.where(np.arange(N) < 6, 20.0, 22.0)))
    cls = np.where(np.arange(N) % 2 == 0, "1", "bd")
    r50 = np.full(N, 0.5)
    return pa.table(
        {"x": x, "y": y, "ra": ra, "dec": dec, "flux_g": flux / 2, "flux_i": flux, "r50": r50,
         "cls": cls.tolist()}
    )  # fmt: skip


def catalog_table(x, y, flux, sigma=0.01, flags=0):
    ra, dec = sky(x, y)
    n = len(ra)
    flux = np.asarray(flux, dtype=float)
    columns = {"x": x, "y": y, "ra": ra, "dec": dec, "is_primary": np.ones(n, bool)}
    for band, part in (("g", 0.5), ("i", 1.0)):
        columns[f"flux_{band}"] = flux * part
        columns[f"flux_err_{band}"] = np.abs(flux) * part * sigma
    columns["flags"] = np.broadcast_to(np.asarray(flags, np.int32), (n,))
    return pa.table(columns)


@pytest.fixture
def planted():
    """Galaxy 0 in two pieces, 1 missing, 2 off by 10 sigma, 3 absurd, the others right to 1 %."""
    truth = truth_table()
    x, y = truth["x"].to_numpy().copy(), truth["y"].to_numpy().copy()
    flux = truth["flux_i"].to_numpy() * np.where(np.arange(N) % 2 == 0, 1.01, 0.99)
    flux[2] = truth["flux_i"].to_numpy()[2] / (1 - 10 * 0.01)
    flux[3] *= 5
    # The piece lies 2 arcsec off the galaxy and is fainter.
    x = np.append(np.delete(x, 1), x[0] + 12)
    y = np.append(np.delete(y, 1), y[0])
    flux = np.append(np.delete(flux, 1), 0.2 * flux[0])
    return catalog_table(x, y, flux), truth


def test_planted_faults_come_out(planted):
    table = score_singles(*planted, BANDS)
    assert table.rows.tolist() == [2, 0, *[1] * 10]
    assert np.flatnonzero(table.split).tolist() == [0]
    assert np.flatnonzero(~table.found).tolist() == [1]
    assert np.flatnonzero(table.absurd).tolist() == [3]
    assert table.error[0] == pytest.approx(0.01)
    assert table.pull[2] == pytest.approx(10, rel=1e-6)
    assert table.pull[4] == pytest.approx(0.01 / 1.01 / 0.01)
    assert np.isnan(table.error[1])


def test_numbers_by_class(planted):
    rows = make_rows("planted", "singles", score_singles(*planted, BANDS), 0.1)
    by = {row["galaxy"]: row for row in rows if row["n_galaxies"] == CLASS}
    assert list(by) == ["1", "bd", "all"]
    assert by["1"]["split"] == pytest.approx(1 / 6)
    # Wilson's interval of 1 in 6 (Brown, Cai & DasGupta 2001).
    assert by["1"]["split_low"] == pytest.approx(0.030, abs=0.001)
    assert by["1"]["split_high"] == pytest.approx(0.564, abs=0.001)
    assert by["bd"]["missed"] == pytest.approx(1 / 6)
    assert by["bd"]["flux_bias"] == pytest.approx(-0.01)
    # Of the eleven with a flux two are far off: number 2, and the absurd one.
    assert by["all"]["beyond_5_sigma"] == pytest.approx(2 / 11)


def test_a_row_that_is_not_in_place_is_no_match():
    truth = truth_table()
    x, y = truth["x"].to_numpy().copy(), truth["y"].to_numpy()
    x[0] += 0.7 / SCALE
    table = score_singles(catalog_table(x, y, truth["flux_i"].to_numpy()), truth, BANDS)
    assert not table.found[0]
    assert table.rows[0] == 1
    assert table.found[1:].all()


def test_a_row_of_negative_flux_is_absurd():
    truth = truth_table()
    flux = truth["flux_i"].to_numpy().copy()
    flux[5] *= -1
    table = score_singles(
        catalog_table(truth["x"].to_numpy(), truth["y"].to_numpy(), flux), truth, BANDS
    )
    assert np.flatnonzero(table.absurd).tolist() == [5]


def test_classes_are_ordered_by_index():
    assert ordered(["real", "4", "0.5", "bd", "1.5"]) == ["0.5", "1.5", "4", "bd", "real"]


def test_tables_and_figures_show_all(planted):
    table = score_singles(*planted, BANDS)
    rows = [row for name in ("a", "b") for row in make_rows(name, "singles", table, 0.1)]
    text = to_markdown(singles_tables(rows))
    assert text.count("### ") == 3
    assert "split, a" in text
    assert "split, b" in text
    assert imread(io.BytesIO(classes_figure(rows))).std() > 0.05
    image = np.random.default_rng(0).normal(size=(2, 256, 256)).astype(np.float32)
    drawn = gallery_figures("a", "singles", table, lambda tile: image, SCALE)
    assert set(drawn) == {"split", "missed", "wrong"}
    assert all(imread(io.BytesIO(png)).std() > 0.05 for png in drawn.values())


def test_a_grid_through_the_pipeline(tmp_path):
    plan = SinglesPlan(classes=("1",), magnitudes=(20.0,), repeats=4)
    simulate_singles(str(tmp_path / "tiles"), "HSC", ("g", "r", "i"), plan, seed=1)
    tiles, out = str(tmp_path / "tiles"), str(tmp_path / "out")
    with catalogs_in_process():
        evaluation = run_evaluation(Request("singles", (), tiles, None, out))
    (total,) = (r for r in evaluation.rows if (r["n_galaxies"], r["galaxy"]) == (CLASS, "all"))
    assert (total["deblender"], total["n"], total["found"], total["split"]) == ("sep", 4, 1, 0)
    assert abs(total["flux_bias"]) < 0.2


def test_tiles_without_truth_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no truth\.parquet"):
        run_evaluation(Request("singles", ("sep",), str(tmp_path), None, str(tmp_path / "out")))
