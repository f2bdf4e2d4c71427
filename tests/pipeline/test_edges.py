"""The same sky cut in several ways gives the same sources."""

from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pyarrow as pa
import pytest
import survey_sky
from astropy.wcs import WCS
from scipy.spatial import KDTree

from raydeblend.config import CatalogConfig
from raydeblend.detect.background import REACH
from raydeblend.detect.cutouts import GUARD
from raydeblend.fits import find_tiles, write_band
from raydeblend.flags import Flag
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.stages import DeblendCell, choose_photometry, detect_cell, measure_cell

BANDS = ("g", "r", "i")
SIZE = 640
# The noise is measured once a tile, so that tiles cut otherwise differ in its last digits.
SEP = CatalogConfig(
    BANDS,
    deblender="sep",
    photometry="mixture",
    cell_size=SIZE,
    border=96,
    noise="independent",
)
JOINT = replace(SEP, deblender="joint", photometry="auto")
TOLERANCE = 1e-3
"""Standard errors."""
JOINT_TOLERANCE, JOINT_APART = 0.1, 0.05
"""Standard errors and pixels.  Stamps are the same bit for bit, but batched sums differ in their
last bits with the number of blends in a batch, and a fit may then end a step earlier."""
# Where tiles meet, the sky of either needs so many pixels on both sides.  With fewer none is lost
# and none twice, but fluxes move; HSC's and LSST's patches overlap by 200 pixels.
OVERLAPS = {2 * REACH + 16: TOLERANCE, 200: 0.1, 100: 0.2}
STAR = (300.0, 110.0)
BESIDE = (185.0, 30.0)
"""A galaxy in the same cell of 160 pixels."""


@cache
def pixels(star):
    """Galaxies, singles and pairs, on an uneven sky; with a star of 150 pixels across or not."""
    rng = np.random.default_rng(3)
    xy = rng.uniform(8, SIZE - 8, (70, 2))
    xy = np.concatenate([xy, xy[:25] + rng.normal(0, 6, (25, 2)), [BESIDE, STAR]])
    flux = np.append(10 ** (2.5 + rng.exponential(0.4, 96)), 4e6 * star)
    sigma = np.append(rng.uniform(1.9, 3.2, 96), 18.0)
    y, x = np.mgrid[:SIZE, :SIZE]
    light = 0.1 * np.sin(x / 150)
    for (gx, gy), f, s in zip(xy, flux, sigma, strict=True):
        light += f / (2 * np.pi * s**2) * np.exp(-((x - gx) ** 2 + (y - gy) ** 2) / (2 * s**2))
    noise = rng.normal(0, 1, (3, SIZE, SIZE))
    return (np.array([0.6, 0.8, 1.0])[:, None, None] * light + noise).astype(np.float32)


def write_tile(folder, x0=0, y0=0, size=SIZE, star=False):
    """Write a part of the sky as a tile named by its corner, with a bad column."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [150.0, 2.0]
    wcs.wcs.crpix = [1 + SIZE / 2 - x0, 1 + SIZE / 2 - y0]
    wcs.wcs.cdelt = [-survey_sky.SCALE / 3600, survey_sky.SCALE / 3600]
    mask = np.zeros((SIZE, SIZE), np.int32)
    mask[: SIZE // 3, SIZE // 2 - 20] = 1
    part = np.s_[y0 : y0 + size, x0 : x0 + size]
    for band, image in zip(BANDS, pixels(star), strict=True):
        write_band(
            f"{folder}/{x0},{y0}_{band}.fits", image[part], mask[part], np.ones((size, size)),
            wcs.to_header(), survey_sky.psf(), survey_sky.FLUX_MAG0, {"BAD": 0},
        )  # fmt: skip


def catalog(folder, config):
    """The catalog of a folder, cell by cell, without Ray."""
    config = replace(config, photometry=choose_photometry(config))
    headers, _ = find_tiles(str(folder), BANDS)
    plan, deblend = plan_survey(headers, config.cell_size, config.border), DeblendCell(config)
    tasks = [plan.task(i) for i in range(len(plan))]
    tables = [measure_cell(deblend(detect_cell(task, config)), config).table for task in tasks]
    return pa.concat_tables(tables).unify_dictionaries()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    write_tile(folder)
    return folder


@pytest.fixture(scope="module")
def in_one_piece(whole):
    return catalog(whole, SEP)


def places(table):
    """Positions on the whole sky's pixel grid."""
    corner = np.array([list(map(int, name.split(","))) for name in table["tile"].to_pylist()])
    return np.column_stack([table["x"].to_numpy(), table["y"].to_numpy()]) + corner


def compare(one, other, tolerance, apart=1e-2):
    """Check that every source of the one is once in the other, with its fluxes.

    Returns the part of sources that are flagged as at an edge in either.
    """
    one, other = (table.filter(table["is_primary"]) for table in (one, other))
    distance, row = KDTree(places(other)).query(places(one))
    flags = one["flags"].to_numpy() | other["flags"].to_numpy()[row]
    inner = (flags & Flag.EDGE) == 0
    assert (distance[inner] < apart).all()
    # None twice and none besides: whatever the other has more is flagged.
    assert len(np.unique(row[inner])) == inner.sum()
    besides = np.setdiff1d(np.arange(other.num_rows), row)
    assert all(other["flags"].to_numpy()[besides] & Flag.EDGE)
    for band in BANDS:
        flux, error = (one[f"{name}_{band}"].to_numpy()[inner] for name in ("flux", "flux_err"))
        offset = other[f"flux_{band}"].to_numpy()[row][inner] - flux
        assert np.nanmax(np.abs(offset / error)) < tolerance
        np.testing.assert_array_equal(np.isnan(offset), np.isnan(flux))
    return 1 - inner.mean()


@pytest.mark.parametrize("cell_size", [320, 160])
def test_cells_of_any_size_give_the_same_sources(in_one_piece, whole, cell_size):
    cut = catalog(whole, replace(SEP, cell_size=cell_size))
    assert len(set(cut["cell"].to_pylist())) == (SIZE // cell_size) ** 2
    assert cut.num_rows == len(set(cut["source_id"].to_pylist())) > 30
    assert compare(in_one_piece, cut, TOLERANCE) < 0.2


def test_cells_of_any_size_give_the_same_sources_by_the_joint_fit(whole):
    one, cut = (catalog(whole, replace(JOINT, cell_size=size)) for size in (SIZE, 320))
    assert compare(one, cut, JOINT_TOLERANCE, JOINT_APART) < 0.2


@pytest.mark.parametrize(("overlap", "tolerance"), OVERLAPS.items())
def test_overlapping_tiles_give_the_same_sources(in_one_piece, tmp_path, overlap, tolerance):
    size = (SIZE + overlap) // 2
    for x0, y0 in product((0, SIZE - size), repeat=2):
        write_tile(tmp_path, x0, y0, size)
    cut = catalog(tmp_path, SEP)
    assert len(set(cut["tile"].to_pylist())) == 4
    assert cut["is_primary"].to_numpy().sum() < cut.num_rows
    assert compare(in_one_piece, cut, tolerance, apart=0.1) < 0.2


def test_a_footprint_larger_than_the_border_is_flagged(tmp_path):
    """The star's footprint leaves the region that a cell of 160 pixels reads."""
    write_tile(tmp_path, star=True)
    (header,), _ = find_tiles(str(tmp_path), BANDS)
    plan = plan_survey([header], 160, GUARD + 10)
    (task,) = (plan.task(i) for i in range(len(plan)) if plan.box(i).contains(STAR[1], STAR[0]))
    table = measure_cell(DeblendCell(SEP)(detect_cell(task, SEP)), SEP).table
    star = KDTree(places(table)).query(STAR)[1]
    assert table["flags"][int(star)].as_py() & Flag.EDGE
    assert not table["flags"].to_numpy().all()
