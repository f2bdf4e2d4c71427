"""Where the tile that geometry prefers has no data, another tile's rows are primary."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import survey_sky as sky
from scipy.spatial import KDTree

from raydeblend import storage
from raydeblend.config import CatalogConfig
from raydeblend.errors import TileError
from raydeblend.fits import coverage as coverage_module
from raydeblend.fits import find_tiles, write_band
from raydeblend.fits.coverage import BLOCK, coverage
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.share import WHOLE, Share
from raydeblend.pipeline.stages import DeblendCell, Work, advance, detect_cell, measure_cell
from raydeblend.survey import get_survey

CONFIG = CatalogConfig(sky.BANDS, deblender="sep", photometry="mixture", cell_size=420, border=60)
COLUMNS = {"left": slice(0, 260), "right": slice(160, 420)}
"""Geometry gives the sky beyond column 210 to the right tile."""
HOLE = np.s_[:, 160:245]
"""Of the right tile; in columns of the sky."""
PLANES = {"BAD": 0, "SAT": 1, "NO_DATA": 8}


def no_data(image, mask, variance):
    mask[HOLE] = 1 << PLANES["NO_DATA"]


def bad(image, mask, variance):
    mask[HOLE] = 1 << PLANES["BAD"]


def nan(image, mask, variance):
    image[HOLE] = np.nan


def no_variance(image, mask, variance):
    variance[HOLE] = 0


def infinite_variance(image, mask, variance):
    variance[HOLE] = np.inf


def filled(image, mask, variance):
    image[HOLE] = variance[HOLE] = 0


def ragged(image, mask, variance):
    """The end of the data runs obliquely through the overlap, as a dithered pointing's does."""
    y, x = np.mgrid[: sky.SIZE, : sky.SIZE]
    mask[x < 180 + y / 6] = 1 << PLANES["NO_DATA"]


HOLES = [no_data, bad, nan, no_variance, infinite_variance, filled, ragged]


def write(folder, name, spoil=None, bands=sky.BANDS):
    """Write a tile; `spoil` changes planes of the whole sky's shape in the given bands."""
    for i, band in enumerate(sky.BANDS):
        image = sky.pixels()[i].copy()
        mask, variance = np.zeros(image.shape, np.int32), np.ones(image.shape, np.float32)
        if spoil and band in bands:
            spoil(image, mask, variance)
        part = np.s_[:, COLUMNS[name]]
        write_band(
            f"{folder}/{name}_{band}.fits", image[part], mask[part], variance[part],
            sky.header(COLUMNS[name].start, 0), sky.psf(), sky.FLUX_MAG0, PLANES,
        )  # fmt: skip


def rows(folder, cell_size=420, share=WHOLE):
    """The rows of all cells that can be done, without Ray; positions on the whole sky's grid."""
    config = replace(CONFIG, cell_size=cell_size)
    headers, _ = find_tiles(str(folder), sky.BANDS)
    plan = plan_survey(headers, cell_size, config.border).only(share)
    deblend, tables = DeblendCell(config), []
    for task in map(plan.task, range(len(plan))):
        work = advance(Work(task), "detect", lambda task: detect_cell(task, config))
        work = advance(work, "deblend", deblend)
        work = advance(work, "measure", lambda separated: measure_cell(separated, config))
        tables += [] if work.error else [work.content.table]
    return pa.concat_tables(tables).unify_dictionaries()


def places(table):
    corner = [COLUMNS[name].start for name in table["tile"].to_pylist()]
    return np.column_stack([table["x"].to_numpy() + corner, table["y"].to_numpy()])


def times_primary(table):
    """How many primary rows each galaxy of the sky has that is measured in any tile."""
    true = sky.galaxies()[:, :2]
    # Of pairs that are taken for one, in any tile, only the one that is found counts.
    known = KDTree(places(table)).query(true)[0] < 2
    primary = places(table.filter(table["is_primary"]))
    return np.array([len(near) for near in KDTree(primary).query_ball_point(true[known], 2)])


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    folder = tmp_path_factory.mktemp("left")
    write(folder, "left")
    return folder


@pytest.mark.parametrize("spoil", HOLES)
def test_every_galaxy_is_primary_once_though_its_owner_has_no_data(tmp_path, spoil):
    write(tmp_path, "left")
    write(tmp_path, "right", spoil)
    whole = rows(tmp_path)
    assert len(times_primary(whole)) > 60
    assert (times_primary(whole) == 1).all()
    # Sources beyond the geometric border are the left tile's, with its rows.
    lone = places(whole.filter((whole["is_primary"].to_numpy()) & (of(whole, "left"))))
    assert (lone[:, 0] > 215).any()
    # Whatever the cut, and whatever part of the survey is run.
    for cut in (rows(tmp_path, 130), in_parts(tmp_path)):
        assert primaries(cut) == primaries(whole)


def of(table, tile):
    return np.array(table["tile"].to_pylist()) == tile


def in_parts(folder):
    shares = [Share(number, 2) for number in (1, 2)]
    names = [[name for name in COLUMNS if share.has(name)] for share in shares]
    assert sorted(map(len, names)) == [1, 1]
    return pa.concat_tables([rows(folder, share=share) for share in shares])


def primaries(table):
    return dict(zip(table["source_id"].to_pylist(), table["is_primary"].to_pylist(), strict=True))


def test_with_all_data_geometry_decides(tmp_path):
    for name in COLUMNS:
        write(tmp_path, name)
    table = rows(tmp_path)
    assert (times_primary(table) == 1).all()
    x, primary = places(table)[:, 0], table["is_primary"].to_numpy()
    np.testing.assert_array_equal(primary, np.where(of(table, "left"), x < 209.5, x > 209.5))


def test_a_tile_with_more_bands_at_a_place_owns_it(tmp_path):
    write(tmp_path, "left")
    write(tmp_path, "right", no_data, bands=("g",))
    table = rows(tmp_path)
    assert (times_primary(table) == 1).all()
    mine = table.filter(table["is_primary"])
    x, flux = places(mine)[:, 0], mine["flux_g"].to_numpy()
    assert np.isfinite(flux[(x > 160) & (x < 250)]).all()


def test_a_single_bad_column_changes_nothing(tmp_path):
    def column(image, mask, variance):
        mask[:, 230] = 1 << PLANES["BAD"]

    write(tmp_path, "left")
    write(tmp_path, "right", column)
    table = rows(tmp_path)
    mine = places(table.filter(of(table, "left") & table["is_primary"].to_numpy()))
    assert mine[:, 0].max() < 210


@pytest.mark.parametrize("harm", ["damaged", "gone", "blank", "psf"])
def test_a_tile_that_cannot_be_read_owns_nothing(tmp_path, harm):
    write(tmp_path, "left")
    write(tmp_path, "right", nothing if harm == "blank" else None)
    headers, _ = find_tiles(str(tmp_path), sky.BANDS)
    path = tmp_path / "right_r.fits"
    if harm == "damaged":
        path.write_bytes(path.read_bytes()[:20_000])
    elif harm == "gone":
        path.unlink()
    elif harm == "psf":
        _spoil_psf(tmp_path)
    headers = {header.name: header for header in headers}
    pixels = np.array([[40, 100], [90, 300]])
    survey = get_survey("HSC")
    assert not coverage(headers["right"], pixels, survey, CONFIG.bad_planes).any()
    assert (coverage(headers["left"], pixels, survey, CONFIG.bad_planes) == 1).all()


def nothing(image, mask, variance):
    image[:] = np.nan


def _spoil_psf(folder):
    from astropy.io import fits

    with fits.open(folder / "right_r.fits", mode="update") as hdus:
        hdus["PSF"].data[:] = np.nan


def test_a_storage_that_does_not_answer_fails_the_cell(left, monkeypatch):
    (header,), _ = find_tiles(str(left), sky.BANDS)

    def silent(*_):
        raise TileError("cannot be read") from storage.SILENCE[-1]("no answer")

    monkeypatch.setattr(coverage_module, "read_tile", silent)
    with pytest.raises(TileError, match="cannot be read"):
        coverage(header, np.array([[4, 4]]), get_survey("HSC"), CONFIG.bad_planes)


def test_coverage_counts_bands_and_what_lies_on_the_tile(tmp_path):
    write(tmp_path, "right", no_data, bands=("g",))
    (header,), _ = find_tiles(str(tmp_path), sky.BANDS)
    # In the hole of one band of three; on all data; 1 pixel within the hole; at a corner.
    pixels = np.array([[40, 100], [120, 100], [84, 100], [259, 419]])
    found = coverage(header, pixels, get_survey("HSC"), CONFIG.bad_planes)
    # Around the third 8 of 17 columns of g are good, 2 of 5 steps; of the corner 81 of 289 pixels.
    np.testing.assert_allclose(found, [2 / 3, 1, (2 + 0.4) / 3, 0.2])


def test_coverage_is_the_same_in_whatever_company(tmp_path):
    write(tmp_path, "right", ragged)
    (header,), _ = find_tiles(str(tmp_path), sky.BANDS)
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, (260, 420), (200, 2))
    whole = coverage(header, pixels, get_survey("HSC"), CONFIG.bad_planes)
    alone = [coverage(header, p[None], get_survey("HSC"), CONFIG.bad_planes)[0] for p in pixels]
    assert whole.tolist() == alone
    assert len(set(alone)) == 6
    assert BLOCK > 420
