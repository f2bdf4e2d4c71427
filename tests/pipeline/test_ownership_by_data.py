"""Where the tile that geometry prefers has no data, another tile's rows are primary."""

from functools import partial

import numpy as np
import pytest
import survey_sky as sky
from astropy.io import fits
from scipy.spatial import KDTree

from raydeblend import storage
from raydeblend.config import CatalogConfig
from raydeblend.errors import TileError
from raydeblend.fits import coverage as coverage_module
from raydeblend.fits import find_tiles, write_band
from raydeblend.fits.coverage import coverage
from raydeblend.pipeline.distinct import peak_pixels
from raydeblend.pipeline.ownership import is_primary
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.share import WHOLE, Share
from raydeblend.pipeline.stages import DeblendCell, detect_cell, measure_cell
from raydeblend.survey import get_survey

CONFIG = CatalogConfig(sky.BANDS, deblender="sep", photometry="mixture", cell_size=420, border=60)
COLUMNS = {"one": slice(0, 260), "two": slice(160, 420)}
"""Geometry gives the sky beyond column 210 to the second; they are in two parts of a survey."""
HOLE = np.s_[:, 160:245]
"""Of the second tile; in columns of the sky."""
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


def write(folder, name, spoil=None, bands=sky.BANDS, rows=sky.SIZE):
    """Write a tile; `spoil` changes planes of the whole sky's shape in the given bands."""
    for i, band in enumerate(sky.BANDS):
        image = sky.pixels()[i].copy()
        mask, variance = np.zeros(image.shape, np.int32), np.ones(image.shape, np.float32)
        if spoil and band in bands:
            spoil(image, mask, variance)
        part = np.s_[:rows, COLUMNS[name]]
        write_band(
            f"{folder}/{name}_{band}.fits", image[part], mask[part], variance[part],
            sky.header(COLUMNS[name].start, 0), sky.psf(), sky.FLUX_MAG0, PLANES,
        )  # fmt: skip


def tasks(folder, cell_size, share=WHOLE):
    headers, _ = find_tiles(str(folder), sky.BANDS)
    plan = plan_survey(headers, cell_size, CONFIG.border).only(share)
    return [plan.task(i) for i in range(len(plan))]


def peaks(folder, cell_size=420, share=WHOLE):
    """The detected peaks of all cells: by tile and pixel of the whole sky, whether primary."""
    found = {}
    covered = partial(coverage, survey=get_survey("HSC"), bad_planes=CONFIG.bad_planes)
    for task in tasks(folder, cell_size, share):
        header, inner = task.cell.tile, task.cell.inner
        blends = detect_cell(task, CONFIG).blends
        xy = np.concatenate([peak_pixels(b.xy + np.array([b.box.x0, b.box.y0])) for b in blends])
        xy = np.array([p for p in xy if inner.contains(p[1], p[0])], float)
        primary = is_primary(header, task.neighbors, xy, covered)
        pixels = xy.astype(int) + np.array([COLUMNS[header.name].start, 0])
        found |= {(header.name, *p): bool(q) for p, q in zip(pixels.tolist(), primary, strict=True)}
    return found


def times_primary(found):
    """How many primary peaks each galaxy of the sky has that is detected in any tile."""
    places = np.array([place[1:] for place in found])
    true = sky.galaxies()[:, :2]
    # Of pairs that are taken for one, in any tile, only the one that is found counts.
    known = true[KDTree(places).query(true)[0] < 2]
    near = KDTree(places[list(found.values())]).query_ball_point(known, 2)
    return np.array([len(those) for those in near])


def primaries(found, tile):
    return np.array([place[1:] for place, primary in found.items() if primary and place[0] == tile])


@pytest.mark.parametrize("spoil", HOLES)
def test_every_galaxy_is_primary_once_though_its_owner_has_no_data(tmp_path, spoil):
    write(tmp_path, "one", rows=340)
    write(tmp_path, "two", spoil, rows=340)
    whole = peaks(tmp_path)
    assert len(times_primary(whole)) > 50
    assert (times_primary(whole) == 1).all()
    # Some of what geometry gives to the other tile is this one's.
    assert (primaries(whole, "one")[:, 0] > 215).any()
    # Whatever part of the survey is run.
    shares = [Share(number, 2) for number in (1, 2)]
    parts = [peaks(tmp_path, share=share) for share in shares]
    assert all(parts)
    assert parts[0] | parts[1] == whole


@pytest.mark.parametrize("spoil", [no_data, ragged])
def test_the_owner_is_the_same_however_tiles_are_cut(tmp_path, spoil):
    write(tmp_path, "one")
    write(tmp_path, "two", spoil)
    whole = peaks(tmp_path)
    assert len(times_primary(whole)) > 60
    assert (times_primary(whole) == 1).all()
    assert peaks(tmp_path, 130) == whole


def test_the_rows_of_the_catalog_are_primary_alike(tmp_path):
    for name, spoil in (("one", None), ("two", no_data)):
        write(tmp_path, name, spoil, rows=70)
    deblend, found = DeblendCell(CONFIG), {}
    for task in tasks(tmp_path, 420):
        table = measure_cell(deblend(detect_cell(task, CONFIG)), CONFIG).table
        tile = task.cell.tile.name
        xy = zip(table["x"].to_pylist(), table["y"].to_pylist(), strict=True)
        places = [(tile, x + COLUMNS[tile].start, y) for x, y in xy]
        found |= dict(zip(places, table["is_primary"].to_pylist(), strict=True))
    assert len(times_primary(found)) > 8
    assert (times_primary(found) == 1).all()
    assert (primaries(found, "one")[:, 0] > 211).any()


def test_with_all_data_geometry_decides(tmp_path):
    for name in COLUMNS:
        write(tmp_path, name)
    found = peaks(tmp_path)
    assert (times_primary(found) == 1).all()
    assert all(p == ((x < 209.5) == (name == "one")) for (name, x, _), p in found.items())


def test_a_tile_with_more_bands_at_a_place_owns_it(tmp_path):
    write(tmp_path, "one")
    write(tmp_path, "two", no_data, bands=("g",))
    found = peaks(tmp_path)
    assert (times_primary(found) == 1).all()
    assert primaries(found, "two")[:, 0].min() > 245


def test_a_single_bad_column_changes_nothing(tmp_path):
    def column(image, mask, variance):
        mask[:, 230] = 1 << PLANES["BAD"]

    write(tmp_path, "one")
    write(tmp_path, "two", column)
    assert primaries(peaks(tmp_path), "one")[:, 0].max() < 210


@pytest.mark.parametrize("harm", ["damaged", "gone", "blank", "psf"])
def test_a_tile_that_cannot_be_read_owns_nothing(tmp_path, harm):
    write(tmp_path, "one")
    write(tmp_path, "two", nothing if harm == "blank" else None)
    headers, _ = find_tiles(str(tmp_path), sky.BANDS)
    path = tmp_path / "two_r.fits"
    if harm == "damaged":
        path.write_bytes(path.read_bytes()[:20_000])
    elif harm == "gone":
        path.unlink()
    elif harm == "psf":
        _spoil_psf(tmp_path)
    headers = {header.name: header for header in headers}
    pixels = np.array([[40, 100], [90, 300]])
    survey = get_survey("HSC")
    assert not coverage(headers["two"], pixels, survey, CONFIG.bad_planes).any()
    assert (coverage(headers["one"], pixels, survey, CONFIG.bad_planes) == 1).all()


def nothing(image, mask, variance):
    image[:] = np.nan


def _spoil_psf(folder):
    with fits.open(folder / "two_r.fits", mode="update") as hdus:
        hdus["PSF"].data[:] = np.nan


def test_a_storage_that_does_not_answer_fails_the_cell(tmp_path, monkeypatch):
    write(tmp_path, "one")
    (header,), _ = find_tiles(str(tmp_path), sky.BANDS)

    def silent(*_):
        raise TileError("cannot be read") from storage.NO_ANSWER[-1]("no answer")

    monkeypatch.setattr(coverage_module, "read_tile", silent)
    with pytest.raises(TileError, match="cannot be read"):
        coverage(header, np.array([[4, 4]]), get_survey("HSC"), CONFIG.bad_planes)


def test_coverage_counts_bands_and_what_lies_on_the_tile(tmp_path):
    write(tmp_path, "two", no_data, bands=("g",))
    (header,), _ = find_tiles(str(tmp_path), sky.BANDS)
    # In the hole of one band of three; on all data; 1 pixel within the hole; at a corner.
    pixels = np.array([[40, 100], [120, 100], [84, 100], [259, 419]])
    found = coverage(header, pixels, get_survey("HSC"), CONFIG.bad_planes)
    # Around the third 8 of 17 columns of g are good, 2 of 5 steps; of the corner 81 of 289 pixels.
    np.testing.assert_allclose(found, [2 / 3, 1, (2 + 0.4) / 3, 0.2])


def test_coverage_is_the_same_in_whatever_company(tmp_path, monkeypatch):
    write(tmp_path, "two", ragged)
    (header,), _ = find_tiles(str(tmp_path), sky.BANDS)
    pixels = np.random.default_rng(1).integers(0, (260, 420), (60, 2))
    ask = partial(coverage, survey=get_survey("HSC"), bad_planes=CONFIG.bad_planes)
    whole = ask(header, pixels)
    assert set(whole.tolist()) > {0, 0.2, 1}
    assert [ask(header, pixel[None])[0] for pixel in pixels] == whole.tolist()
    # Nor does it matter that a block ends near a pixel.
    monkeypatch.setattr(coverage_module, "BLOCK", 64)
    assert ask(header, pixels).tolist() == whole.tolist()
