"""A tile of four cells with PSFs of their own, from its pixels to its rows, without Ray."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from raydeblend.config import CatalogConfig
from raydeblend.fits import find_tiles
from raydeblend.flags import Flag
from raydeblend.pipeline.deblended import without_models
from raydeblend.pipeline.deblending import DeblendCell
from raydeblend.pipeline.plan import CellTask
from raydeblend.pipeline.stages import detect_cell, measure_cell
from raydeblend.psf import constant
from raydeblend.simulate.galaxies import Galaxies
from raydeblend.simulate.psf_variation import PsfVariation
from raydeblend.simulate.scene import Grid, Scene
from raydeblend.simulate.tiles import write_tile
from raydeblend.survey import get_survey
from raydeblend.tile import Cell

HSC = get_survey("HSC")
BANDS = ("g", "r", "i")
SIDE, STEP, EDGE = 288, 48, 144
# ln width and shear of the PSF in each cell, in all bands alike.
JUMPS = np.array([[[0.0, 0.02, 0.0], [0.12, 0.0, 0.03]], [[-0.08, -0.02, 0.0], [0.05, 0.04, 0.0]]])
ON_EDGE = np.array([[EDGE - 0.5, 96.0]])


def make_scene():
    """Stars and galaxies by turns on a grid, each alone, and one galaxy on an edge of cells."""
    rng = np.random.default_rng(4)
    places = np.stack(np.meshgrid(*[np.arange(STEP / 2, SIDE, STEP)] * 2), -1).reshape(-1, 2)
    places = places + rng.uniform(-3, 3, places.shape)
    is_star = np.arange(len(places)) % 2 == np.arange(len(places)) // 6 % 2
    galaxies = np.concatenate([places[~is_star], ON_EDGE])
    n = len(galaxies)
    magnitude = np.tile(rng.uniform(21.5, 22.5, (n, 1)), 3)
    stars = np.tile(rng.uniform(21.5, 23.0, (is_star.sum(), 1)), 3)
    table = Galaxies(
        bands=BANDS,
        magnitude=magnitude,
        bulge_fraction=np.full((n, 3), 0.1),
        disk_radius=rng.uniform(0.3, 0.5, n),
        bulge_radius=np.full(n, 0.2),
        disk_g=rng.uniform(-0.2, 0.2, (n, 2)),
        bulge_g=np.zeros((n, 2)),
        redshift=np.full(n, 0.5),
    )
    variation = PsfVariation(
        Grid(1, SIDE, 0, HSC.pixel_scale).extent,
        2,
        np.zeros((3, 5, 3)),
        np.tile(JUMPS[None, None], (1, 3, 1, 1, 1)),
    )
    return Scene(
        HSC,
        Grid(1, SIDE, 0, HSC.pixel_scale),
        np.concatenate([galaxies, places[is_star]]),
        10 ** (0.4 * (31.4 - np.concatenate([magnitude, stars]))),
        table,
        variation=variation,
    )


SCENE = make_scene()
CONFIG = CatalogConfig(bands=BANDS, background="none")


def detected_in(folder, config):
    header = find_tiles(folder, BANDS, config.image_pattern, config.psf_pattern)[0][0]
    return detect_cell(CellTask(Cell("whole", header, header.box, header.box)), config)


def rows_of(detected, deblend, config):
    """Return the catalog's row of each true source; none is missed."""
    table = measure_cell(without_models(deblend(detected)), config).table.to_pandas()
    place = table[["x", "y"]].to_numpy()
    distance = np.linalg.norm(place[None] - SCENE.xy[:, None], axis=2)
    assert (distance.min(1) < 1).all()
    return table.iloc[distance.argmin(1)].reset_index(drop=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = str(tmp_path_factory.mktemp("cells"))
    write_tile(SCENE, 0, 3, out)
    return out


@pytest.fixture(scope="module", params=["joint", "mixture"])
def measured(request, folder):
    """The rows, and those that one PSF for the whole tile would give."""
    deblender = "joint" if request.param == "joint" else "sep"
    config = replace(CONFIG, deblender=deblender, photometry=request.param)
    detected, deblend = detected_in(folder, config), DeblendCell(config)
    one = replace(detected, psf=constant(detected.psf.at(0, 0)))
    return [rows_of(each, deblend, config) for each in (detected, one)]


def carry(rows, flag):
    return rows["flags"].to_numpy() & int(flag) > 0


def cell_of():
    return (SCENE.xy > EDGE - 0.5) @ [1, 2]


def pulls(rows):
    flux, error = (rows[[f"{name}_{b}" for b in BANDS]].to_numpy() for name in ("flux", "flux_err"))
    return (flux - SCENE.flux) / error, flux / SCENE.flux - 1


def test_fluxes_are_right_in_every_cell(measured):
    rows, _ = measured
    inside = ~carry(rows, Flag.PSF_DISCONTINUOUS)
    pull, bias = pulls(rows)
    for cell in range(4):
        stars = inside & SCENE.is_star & (cell_of() == cell)
        assert stars.sum() >= 3
        assert abs(np.median(bias[stars])) < 0.01
    # The errors of joint allow for a profile that is not quite right, which a star's is.
    assert 0.4 < np.sqrt((pull[inside] ** 2).mean()) < 1.25


def test_stars_have_no_size_in_any_cell_and_with_one_psf_they_have(measured):
    """The flux in the PSF is that of the star; elsewhere a wrong width shows at once."""
    right, wrong = (np.array([np.median(part) for part in by_cell(rows)]) for rows in measured)
    assert (right < 3).all()  # T is never negative
    assert wrong[1] > 5  # where the PSF is 12 % wider than in the first cell


def by_cell(rows):
    pull = (rows["T"] / rows["T_err"]).to_numpy()
    return [pull[SCENE.is_star & (cell_of() == cell)] for cell in range(4)]


def test_the_flux_of_a_point_takes_the_psf_of_its_place(measured):
    right, wrong = (
        (rows[[f"flux_psf_{b}" for b in BANDS]].to_numpy() / SCENE.flux - 1)[SCENE.is_star]
        for rows in measured
    )
    where = cell_of()[SCENE.is_star]
    for cell in range(4):
        assert abs(np.median(right[where == cell])) < 0.01
    assert abs(np.median(wrong[where == 1])) > 0.03


def test_a_footprint_over_an_edge_is_flagged_and_no_other(measured):
    rows, _ = measured
    over = carry(rows, Flag.PSF_DISCONTINUOUS)
    on_edge = np.linalg.norm(SCENE.xy - ON_EDGE, axis=1) < 1
    assert over[on_edge].all()
    from_edge = np.abs(SCENE.xy - EDGE + 0.5).min(1)
    alone = (rows["n_blended"] == 1).to_numpy()
    assert alone.sum() > 25
    assert not over[alone & (from_edge > 18)].any()


def test_a_cell_without_psf_and_pixels_in_one_band(folder, tmp_path):
    for path in Path(folder).glob("*.fits"):
        with fits.open(path) as hdus:
            if path.name.endswith("_g.fits"):
                hdus["PSF"].data[0, 1] = np.nan
                hdus["IMAGE"].data[:EDGE, EDGE:] = np.nan
            hdus.writeto(tmp_path / path.name)
    config = replace(CONFIG, deblender="joint", photometry="joint")
    rows = rows_of(detected_in(str(tmp_path), config), DeblendCell(config), config)
    nominal = carry(rows, Flag.PSF_NOMINAL)
    missing = carry(rows, Flag.BAND_MISSING)
    off_edge = np.abs(SCENE.xy - EDGE + 0.5).min(1) > 14
    there = cell_of() == 1
    assert nominal[there & off_edge].all()
    assert not nominal[~there & off_edge].any()
    assert missing[there & off_edge].all()
    assert rows["flux_g"].isna()[there & off_edge].all()
    assert not rows["flux_g"].isna()[~there].any()
    pull, _ = pulls(rows)
    assert np.abs(np.nanmedian(pull[there][:, 1:])) < 1.5
