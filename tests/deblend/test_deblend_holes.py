"""Pairs of galaxies with an edge, a gap or a saturated core in one band through them."""

import numpy as np
import pytest

from raydeblend.config import CatalogConfig
from raydeblend.deblend import load_deblender
from raydeblend.deblend.holes import fill_from_bands, fill_from_models, holes_of
from raydeblend.deblend.masks import mask_for, merge_bands
from raydeblend.deblend.preparation import prepare
from raydeblend.detect.footprints import DetectConfig, find_blends
from raydeblend.measure.measure import measure_blends
from raydeblend.pipeline.deblending import DeblendCell
from raydeblend.pipeline.detected import Detected
from raydeblend.pipeline.plan import CellTask
from raydeblend.psf import constant
from raydeblend.tile import Box, Cell, Tile, TileHeader

BANDS, SCALE, SIZE = ("g", "r", "i"), 0.168, 96
SIGMA = np.array([3.0, 4.0, 5.0])
PSF_SIGMA, GALAXY_SIGMA = 1.75, 2.2
APART = 2 * 2.355 * GALAXY_SIGMA * 0.85
XY = np.array([[47.8, 48.3], [47.8 + APART, 48.3]])
SNR = 100.0
COLORS = np.array([[0.6, 0.8, 1.0], [0.9, 0.9, 1.0]])


def gaussian(x, y, sigma, size=SIZE):
    rows, columns = np.mgrid[:size, :size]
    squared = (columns - x) ** 2 + (rows - y) ** 2
    return np.exp(-0.5 * squared / sigma**2) / (2 * np.pi * sigma**2)


def true_fluxes():
    """Of S/N 100 in all bands together: SNR = F (Σ c² / σ²)^½ / (4π)^½ s."""
    norm = np.sqrt((COLORS**2 / SIGMA**2).sum(1)) / (np.sqrt(4 * np.pi) * GALAXY_SIGMA)
    return SNR / norm[:, None] * COLORS


def make_tile(unusable):
    profiles = np.stack([gaussian(x, y, GALAXY_SIGMA) for x, y in XY])
    noise = np.random.default_rng(5).normal(0, SIGMA[:, None, None], (3, SIZE, SIZE))
    image = np.einsum("kb,kyx->byx", true_fluxes(), profiles) + noise
    psf = gaussian(15, 15, PSF_SIGMA, 31).astype(np.float32)
    header = TileHeader("t", BANDS, (None,) * 3, (SIZE, SIZE), "", SCALE)
    return Tile(
        header=header,
        box=header.box,
        # What is unusable holds what a detector would: nothing, or too much.
        image=np.where(unusable, 1e4, image).astype(np.float32),
        variance=np.broadcast_to(SIGMA[:, None, None] ** 2, image.shape).astype(np.float32),
        unusable=unusable,
        saturated=np.zeros((SIZE, SIZE), dtype=bool),
        psf=constant([psf / psf.sum()] * 3),
    )


def holes(kind, band):
    y, x = np.mgrid[:SIZE, :SIZE]
    middle = XY.mean(0)
    found = np.zeros((3, SIZE, SIZE), dtype=bool)
    found[band] = {
        "none": np.zeros_like(x, dtype=bool),
        "edge": x > middle[0],
        "edge through one": x > XY[1, 0],
        "gap": np.abs(x - middle[0]) < 2.5,
        "row": np.abs(y - middle[1]) < 1.5,
        "core": np.hypot(*(np.stack([x, y]) - XY[0][:, None, None])) < 3,
    }[kind]
    return found


def measure(cell, tile):
    """Return positions, fluxes and errors of all sources of the tile."""
    blends = find_blends(tile, DetectConfig())
    header = tile.header
    task = CellTask(Cell("c", header, header.box, Box(0, 0, SIZE, SIZE)))
    separated = cell(Detected(task, tuple(blends), tile.psf))
    rows = []
    for blend, part in zip(blends, separated.parts, strict=True):
        own = part.measured
        if own is None:
            own = measure_blends(
                [blend], [part.models], [part.xy], tile.psf.at(0, 0), SCALE, "mixture", model="bdf"
            )[0]
        corner = np.array([blend.box.x0, blend.box.y0])
        rows += list(zip(part.xy + corner, own.flux, own.flux_err, strict=True))
    return [np.array(column) for column in zip(*rows, strict=True)]


@pytest.fixture(scope="module", params=["joint", "rdn", "branched", "vae", "srgan", "sep"])
def cell(request):
    config = CatalogConfig(bands=BANDS, deblender=request.param)
    return DeblendCell(config, load_deblender(request.param, "cpu"))


@pytest.fixture(scope="module")
def whole(cell):
    return measure(cell, make_tile(holes("none", 0)))


@pytest.mark.parametrize(
    ("kind", "band"),
    [("edge", 2), ("edge through one", 0), ("gap", 2), ("core", 2), ("row", 1)],
)
def test_a_hole_in_one_band_leaves_a_pair_divided_and_the_other_bands_as_they_were(
    cell, whole, kind, band
):
    xy, flux, error = measure(cell, make_tile(holes(kind, band)))
    assert len(xy) == 2
    order = [np.hypot(*(xy - true).T).argmin() for true in XY]
    assert sorted(order) == [0, 1]
    first = [np.hypot(*(whole[0] - true).T).argmin() for true in XY]
    good = np.arange(3) != band
    pull = (flux[order] - true_fluxes()) / error[order]
    assert np.abs(pull[:, good]).max() < 4
    ratio = (error[order] / whole[2][first])[:, good]
    assert np.median(ratio) == pytest.approx(1, abs=0.2)
    lost = np.isnan(flux[order, band])
    assert lost.sum() <= 1, "a source that the band shows has a flux"
    assert np.abs(pull[~lost, band]).max() < 4
    assert (error[order] / whole[2][first])[~lost, band].max() > 1


def test_holes_are_what_another_band_shows():
    weight = np.ones((2, 3, 4, 4), np.float32)
    weight[0, 0, 1, 1] = 0
    weight[0, :, 2, 2] = 0
    weight[1, 1] = 0
    assert np.argwhere(holes_of(weight)).tolist() == [[0, 0, 1, 1]]


def test_a_hole_is_filled_in_the_color_of_its_surroundings():
    light = gaussian(20, 20, 3.0, 40)
    image = np.stack([3000 * light, 1500 * light, 6000 * light]).astype(np.float32)
    bad = np.zeros(image.shape, dtype=bool)
    bad[0, :, 20:] = True
    bad[:, 5, 5] = True
    dirty = np.where(bad, 0, image).astype(np.float32)
    filled = fill_from_bands(dirty, bad)
    np.testing.assert_array_equal(filled[1:], dirty[1:])
    hole = bad[0] & ~bad.all(0)
    np.testing.assert_allclose(filled[0, hole].sum(), image[0, hole].sum(), rtol=0.05)
    assert filled[0, 5, 5] == 0


def test_nothing_is_filled_where_all_bands_are_good_or_bad_alike():
    image = np.random.default_rng(0).normal(size=(3, 16, 16)).astype(np.float32)
    bad = np.zeros(image.shape, dtype=bool)
    bad[:, :, 8:] = True
    assert fill_from_bands(image, bad) is image
    bad[1] = True
    assert fill_from_bands(image, bad) is image


def test_only_stamps_with_holes_are_shown_to_the_network_twice():
    image = np.zeros((3, 2, 8, 8), np.float32)
    hole = np.zeros(image.shape, dtype=bool)
    hole[1, 0, 2, 3] = True
    shown = []

    def light(rows):
        shown.append(rows.tolist())
        return image[rows] + 7

    filled = fill_from_models(image, hole, light)
    assert shown == [[1]]
    np.testing.assert_array_equal(filled, np.where(hole, 7, 0))
    assert fill_from_models(image, np.zeros_like(hole), light) is image


def test_masks_may_be_of_each_band_or_of_all():
    images = np.random.default_rng(1).normal(size=(2, 3, 32, 32)).astype(np.float32)
    mask = np.zeros((2, 32, 32), dtype=bool)
    mask[0, 3:7, 9] = True
    common = prepare(images, np.ones_like(images), mask)
    each = prepare(images, np.ones_like(images), np.repeat(mask[:, None], 3, axis=1))
    for one, other in zip(vars(common).values(), vars(each).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    of_one = np.zeros(images.shape, dtype=bool)
    of_one[0, 1, 3:7, 9] = True
    weight = prepare(images, np.ones_like(images), of_one).weight
    assert (weight == 0).sum() == 4
    variance = np.where(of_one, np.inf, 1.0)
    np.testing.assert_array_equal(prepare(images, variance).weight == 0, of_one)


def test_a_deblender_that_does_not_ask_for_masks_of_bands_gets_one_for_all():
    unusable = np.zeros((1, 2, 4, 4), dtype=bool)
    unusable[0, 0, 1, 2] = True

    class Old:
        name = "old"

    class New:
        name, band_masks = "new", True

    assert mask_for(New(), unusable) is unusable
    np.testing.assert_array_equal(mask_for(Old(), unusable), unusable.any(axis=1))
    unusable[0, 1] = True
    assert merge_bands(unusable).sum() == 1
