import itertools

import numpy as np
import pyarrow.parquet as pq
import pytest

from raydeblend.errors import ConfigError
from raydeblend.simulate.neighbors import pairs_scene, stars_scene
from raydeblend.simulate.population.stamps import find_stamps
from raydeblend.simulate.rendering import draw_sources
from raydeblend.simulate.singles import LARGE, SinglesPlan, singles_scene
from raydeblend.simulate.tiles import simulate_neighbors, simulate_singles, simulate_tiles
from raydeblend.survey import get_survey

HSC = get_survey("HSC")
BANDS = ("g", "i")
NONE = find_stamps(None, "train")


def test_every_class_has_every_magnitude():
    plan = SinglesPlan(classes=("0.5", "4", "bd", "clumpy"), repeats=2)
    scene = singles_scene(HSC, BANDS, plan, 1, NONE)
    shapes = scene.galaxies.shapes(1)
    step = np.round(scene.galaxies.magnitude[:, 1]).astype(int)
    for name, magnitude in itertools.product(plan.classes, plan.magnitudes):
        assert ((shapes.cls == name) & (step == magnitude)).sum() == 2
    assert (shapes.index[shapes.cls == "4"] == 4).all()
    # One a cell, near its middle.
    cells = (scene.xy // plan.spacing).astype(int)
    assert len(np.unique(cells, axis=0)) == len(scene.xy)
    assert np.abs(scene.xy - (cells + 0.5) * plan.spacing).max() < 4


def test_fluxes_of_the_pixels_are_those_of_the_truth():
    plan = SinglesPlan(classes=("0.5", "1", "bd"), magnitudes=(20.0, 21.0), repeats=1, spacing=96)
    scene = singles_scene(HSC, BANDS, plan, 2, NONE)
    image = draw_sources(scene, scene.grid.box(0), 1)
    for (x, y), flux in zip(scene.xy, scene.flux[:, 1], strict=True):
        column, row = int(x // 96), int(y // 96)
        cell = image[96 * row : 96 * (row + 1), 96 * column : 96 * (column + 1)]
        assert cell.sum() == pytest.approx(flux, rel=0.06)


def test_large_galaxies_are_large():
    scene = singles_scene(HSC, BANDS, LARGE, 3, NONE)
    r50 = scene.galaxies.shapes(1).r50
    assert r50.max() > 3.5
    assert np.median(r50) > 1.5
    assert "hudf" not in scene.galaxies.shapes(1).cls


def test_pairs_are_close_and_a_tenth_at_least():
    scene = pairs_scene(HSC, BANDS, 50, 4, NONE)
    distance = HSC.pixel_scale * np.hypot(*(scene.xy[1::2] - scene.xy[::2]).T)
    assert distance.min() >= 0.2
    assert distance.max() <= 1.5
    ratio = scene.flux[1::2, 1] / scene.flux[::2, 1]
    assert ratio.min() > 0.099
    assert ratio.max() <= 1.0


def test_galaxies_stand_around_stars():
    scene = stars_scene(HSC, BANDS, 9, 5, NONE)
    stars = scene.xy[scene.is_star]
    galaxies = scene.xy[~scene.is_star].reshape(9, 3, 2)
    distance = HSC.pixel_scale * np.linalg.norm(galaxies - stars[:, None], axis=-1)
    assert distance.min() >= 3
    assert distance.max() <= 7
    i = 31.4 - 2.5 * np.log10(scene.flux[scene.is_star, 1])
    np.testing.assert_allclose(np.sort(i), np.linspace(15.5, 20.5, 9), atol=1e-9)


def test_bright_stars_bleed_and_are_masked(tmp_path):
    from raydeblend import fits

    simulate_neighbors(str(tmp_path), "HSC", ("i",), "stars", 1, seed=1)
    (header,), _ = fits.find_tiles(str(tmp_path), ("i",))
    tile = fits.read_tile(header, header.box, HSC)
    truth = pq.read_table(tmp_path / "truth.parquet").to_pylist()
    star = next(row for row in truth if row["is_star"])
    assert star["magnitude"] == pytest.approx(15.5)
    x, y = round(star["x"]), round(star["y"])
    bad = tile.unusable[0]
    assert bad[y, x]
    # Longer along the column than across it.
    assert bad[:, x].sum() > 2 * bad[y].sum() > 0


def test_a_tile_of_singles_with_its_truth(tmp_path):
    plan = SinglesPlan(classes=("1",), magnitudes=(21.0,), repeats=1)
    written = simulate_singles(str(tmp_path), "LSST", ("r", "i"), plan, seed=3, split="validation")
    assert written.n_sources == 1
    assert pq.read_table(written.truth)["cls"].to_pylist() == ["1"]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda out: simulate_singles(out, "HSC", BANDS, SinglesPlan(("7x",))), "unknown class"),
        (lambda out: simulate_singles(out, "HSC", BANDS, SinglesPlan(("real",))), "no real ones"),
        (lambda out: simulate_neighbors(out, "HSC", BANDS, "trios", 1), "unknown kind 'trios'"),
        (lambda out: simulate_neighbors(out, "HSC", BANDS, "pairs", 0), "at least 1, not 0"),
        (lambda out: simulate_tiles(out, "HSC", BANDS, 1, 64, population="sky"), "unknown popul"),
        (lambda out: simulate_tiles(out, "HSC", BANDS, 1, 64, population="catsim"), "--catalog"),
        (lambda out: simulate_tiles(out, "HSC", BANDS, 1, 64, stamps="x"), "no real galaxies"),
    ],
)
def test_arguments_that_cannot_be_used(tmp_path, call, sentence):
    with pytest.raises(ConfigError, match=sentence):
        call(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
