"""LSST's DP2: planes by name, nJy, the PSF of each cell, and what of it is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as astrofits
from astropy.table import Table
from astropy.wcs import WCS
from dp2_files import PLANES, Patch, noise

from raydeblend import fits
from raydeblend.errors import NoDataError, TileError
from raydeblend.fits import psf_cells
from raydeblend.fits.raw import read_realization
from raydeblend.flags import Flag
from raydeblend.survey import get_survey, nominal_psf
from raydeblend.tile import Box, Tile, TileHeader

LSST = get_survey("LSST")
DP2 = Path(__file__).parents[3] / "shared/data/lsst/dp2_deep_coadd"
PATCH = Patch()
NO_PSF = {(0, 1), (2, 2)}


def bits(*planes: str) -> int:
    return sum(1 << PLANES.index(plane) for plane in planes)


def plan(folder: Path, bands: tuple[str, ...] = ("g",)) -> TileHeader:
    (header,), failures = fits.find_tiles(str(folder), bands)
    assert not failures
    return header


@pytest.mark.parametrize("compressed", [None, "RICE_1", "GZIP_2"])
def test_planes_are_read_by_their_names(tmp_path: Path, compressed: str | None) -> None:
    patch = replace(PATCH, compressed=compressed)
    image, mask = noise(patch.shape), np.zeros(patch.shape, np.int32)
    mask[10:30] = bits("DETECTED", "INEXACT_PSF")
    mask[40, 50] = bits("SATURATED", "DETECTED")
    mask[41, 50] = bits("NO_DATA")
    variance = np.full(patch.shape, 4, np.float32)
    image[50, 1], variance[50, 2], variance[50, 3] = np.nan, np.inf, 0
    patch.write(tmp_path, "g", image, mask, variance)
    header = plan(tmp_path)
    tile = fits.read_tile(header, header.box, LSST)
    assert (header.name, header.files[0].layout) == ("77-5", "lsst-dp2")
    assert header.pixel_scale == pytest.approx(0.2)
    bad = [[40, 50], [41, 50], [50, 1], [50, 2], [50, 3]]
    assert np.argwhere(tile.unusable[0]).tolist() == bad
    assert np.argwhere(tile.saturated).tolist() == [[40, 50]]
    good = ~tile.unusable[0]
    np.testing.assert_array_equal(tile.image[0][good], image[good])  # nJy as they are
    np.testing.assert_array_equal(tile.variance[0], 4)
    # Other bad planes than those of the layout.
    detected = fits.read_tile(header, header.box, LSST, ("DETECTED",))
    assert detected.unusable[0, 10:30].all()
    assert detected.unusable.sum() == 20 * 100 + 4


def test_the_sky_is_that_of_the_tract(tmp_path: Path) -> None:
    PATCH.write(tmp_path, "g", noise(PATCH.shape))
    wcs = WCS(astrofits.Header.fromstring(plan(tmp_path).wcs))
    np.testing.assert_allclose(wcs.all_pix2world(50, 35, 0), (150, 2), atol=1e-10)


def test_every_place_has_the_psf_of_its_cell(tmp_path: Path) -> None:
    PATCH.write(tmp_path, "g", noise(PATCH.shape))
    header = plan(tmp_path)
    tile = fits.read_tile(header, header.box, LSST)
    for y in range(0, 70, 5):
        for x in range(0, 100, 9):
            # Pixel y = 0 is 1010 of the tract, and cells of 30 pixels begin at 1000.
            cell = (y + 10) // 30, x // 40
            (missing,), (flags,) = tile.psf.missing([[x, y]])[0], tile.psf.flags([[x, y]])
            assert missing == (cell in NO_PSF), (x, y)
            assert bool(flags & Flag.PSF_NOMINAL) == missing
            if not missing:
                np.testing.assert_allclose(tile.psf.at(x, y)[0], PATCH.stamp(*cell), rtol=1e-5)
    # Half a pixel belongs to the pixel's square.
    for x, cell in ((39.49, 0), (39.51, 1)):
        np.testing.assert_allclose(tile.psf.at(x, 30)[0], PATCH.stamp(1, cell), rtol=1e-5)
    assert not tile.flags


def test_only_the_cells_of_a_box_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    patch = Patch(shape=(600, 800), cells=(21, 20), nan=(), missing=())
    patch.write(tmp_path, "g", noise(patch.shape))
    header, finished = plan(tmp_path), []
    finish = psf_cells.finish_stamp
    monkeypatch.setattr(
        psf_cells, "finish_stamp", lambda *a: (finished.append(a[1]), finish(*a))[1]
    )
    whole = fits.read_tile(header, header.box, LSST)
    assert len(finished) == 21 * 20
    finished.clear()
    tile = fits.read_tile(header, Box(300, 400, 340, 470), LSST)
    # Rows 10 and 11, columns 10 and 11, and one more on each side.
    assert len(finished) == 4 * 4
    for x, y in ((400, 300), (469, 339), (440, 319)):
        np.testing.assert_array_equal(tile.psf.at(x, y)[0], whole.psf.at(x, y)[0])
    assert tile.psf.bands[0].height == whole.psf.bands[0].height


def test_a_box_without_any_psf_has_the_nominal_one(tmp_path: Path) -> None:
    patch = replace(PATCH, nan=tuple(np.ndindex(3, 3)), missing=())
    patch.write(tmp_path, "g", noise(patch.shape))
    header = plan(tmp_path)
    tile = fits.read_tile(header, header.box, LSST)
    assert Flag(tile.flags) == Flag.PSF_NOMINAL
    np.testing.assert_array_equal(tile.psf.at(5, 5)[0], nominal_psf(LSST, "g"))


def test_a_cell_whose_psf_is_nan_in_part_has_none(tmp_path: Path) -> None:
    """It costs its own sources their PSF, not the patch."""
    patch = replace(PATCH, nan=(), missing=(), partly_nan=((1, 1),))
    patch.write(tmp_path, "g", noise(patch.shape))
    header = plan(tmp_path)
    tile = fits.read_tile(header, header.box, LSST)
    xy = [[5.0, 5.0], [60.0, 40.0], [100.0, 70.0]]
    assert tile.psf.missing(xy).ravel().tolist() == [False, True, False]
    assert tile.psf.flags(xy).tolist() == [0, int(Flag.PSF_NOMINAL), 0]
    assert np.isfinite(tile.psf.at(60, 40)[0]).all()


def test_bands_may_lack_other_cells(tmp_path: Path) -> None:
    for band, empty in (("g", (0, 0)), ("r", (1, 1))):
        patch, image = replace(PATCH, nan=(empty,), missing=()), noise(PATCH.shape)
        y, x = 30 * empty[0] - 10, 40 * empty[1]
        image[max(y, 0) : y + 30, x : x + 40] = np.nan
        patch.write(tmp_path, band, image)
    header = plan(tmp_path, ("g", "r"))
    tile = fits.read_tile(header, header.box, LSST)
    assert tile.unusable.sum(axis=(1, 2)).tolist() == [20 * 40, 30 * 40]
    assert tile.psf.missing([[5, 5], [45, 25], [90, 60]]).tolist() == [
        [True, False], [False, True], [False, False],
    ]  # fmt: skip
    # A box that holds nothing but the empty cell of g.
    corner = fits.read_tile(header, Box(0, 0, 20, 40), LSST)
    assert Flag(corner.flags) == Flag.BAND_MISSING
    assert corner.unusable.mean(axis=(1, 2)).tolist() == [1, 0]


def test_a_box_of_an_empty_cell_has_no_data(tmp_path: Path) -> None:
    image, mask = noise(PATCH.shape), np.zeros(PATCH.shape, np.int32)
    image[:20, 40:80], mask[:20, 40:80] = np.nan, bits("NO_DATA")
    PATCH.write(tmp_path, "g", image, mask)
    with pytest.raises(NoDataError):
        fits.read_tile(plan(tmp_path), Box(0, 40, 20, 80), LSST)


def test_the_noise_realization_of_a_box(tmp_path: Path) -> None:
    image = noise(PATCH.shape)
    PATCH.write(tmp_path, "g", image)
    file = plan(tmp_path).files[0]
    np.testing.assert_array_equal(read_realization(file, Box(5, 7, 30, 60)), -image[5:30, 7:60])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"planes": ("BURNT", "LOST")}, "none of them is one of BAD, SATURATED, COSMIC_RAY"),
        ({"planes": ()}, "planes have no names that the layout lsst-dp2 knows (MSKN<n> = plane"),
        ({"unit": "adu"}, "has no zero point (a unit of flux in BUNIT)"),
        ({"unit": "MJy/sr"}, "is in MJy/sr, which is no flux of a pixel"),
        ({"unit": "mag"}, "is in mag; an image must be linear in flux"),
        ({"cells": (2, 3)}, "cells of the PSF cover y from -10 to 50, the image from 0 to 70"),
        ({"cells_start": (1030, 2000)}, "cells of the PSF cover y from 20 to 110"),
        ({"changes": {"min_read_version": 2}}, "needs a reader of version 2, this is of 1"),
        ({"changes": {"bounds": {}}}, "its HDU JSON tells no grid of PSFs: KeyError('grid')"),
    ],
)
def test_what_is_refused(tmp_path: Path, change: dict[str, object], sentence: str) -> None:
    replace(PATCH, **change).write(tmp_path, "g", noise(PATCH.shape))
    assert sentence in _refusal(tmp_path)


def _refusal(folder: Path) -> str:
    """Why a tile cannot be planned, or read."""
    headers, failures = fits.find_tiles(str(folder), ("g",))
    if failures:
        return failures[0].reason
    with pytest.raises(TileError) as refused:
        fits.read_tile(headers[0], headers[0].box, LSST)
    return str(refused.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda hdus: hdus["VARIANCE"].header.update(BUNIT="nJy"), "should be the variance of an"),
        (lambda hdus: hdus["MASK"].header.update(MSKM0001=6), "no such bit: MSKM0001 = 6"),
        (lambda hdus: hdus.pop(hdus.index_of("JSON")), "nothing tells where the cells of the PSF"),
        (lambda hdus: hdus["IMAGE"].header.update(EXTNAME="MASK"), "holds no image"),
    ],
)
def test_contradictions_are_refused(
    tmp_path: Path, change: Callable[[astrofits.HDUList], object], sentence: str
) -> None:
    patch = replace(PATCH, compressed=None)
    image, mask = noise(PATCH.shape), np.zeros(PATCH.shape, np.int32)
    hdus = patch.hdus(image, mask, np.full(PATCH.shape, 4, np.float32))
    change(hdus)
    hdus.writeto(tmp_path / patch.name("g"))
    assert sentence in _refusal(tmp_path)


@pytest.mark.skipif(not DP2.exists(), reason="needs ../shared/data/lsst/dp2_deep_coadd")
def test_the_patch_that_lsst_images_wrote() -> None:
    """Against its truth: positions by pixels and sky, and what is empty."""
    header = plan(DP2, ("g", "r", "i"))
    tile, truth = fits.read_tile(header, header.box, LSST), Table.read(DP2 / "truth.ecsv")
    wcs = WCS(astrofits.Header.fromstring(header.wcs))
    sky = np.column_stack([truth["ra"], truth["dec"]])
    xy = np.column_stack([truth["x"], truth["y"]])
    np.testing.assert_allclose(wcs.all_world2pix(sky, 0), xy, atol=1e-6)
    empty = np.array(truth["in_empty_cell"])
    assert np.array_equal(tile.psf.missing(xy), np.repeat(empty[:, None], 3, axis=1))
    places = np.floor(xy + 0.5).astype(int)
    assert tile.unusable[:, places[empty, 1], places[empty, 0]].all()
    assert tile.unusable.mean() < 0.12  # the empty cell and a spot, and no source for being one
    stars = np.flatnonzero((truth["size"] == 0) & ~empty & (truth["flux_g"] > 1000))
    for n in stars:
        _check_star(tile, xy[n], np.array([truth[f"flux_{b}"][n] for b in "gri"]), xy)


def _check_star(tile: Tile, at: np.ndarray, flux: np.ndarray, others: np.ndarray) -> None:
    """Fit the flux of one star alone with the PSF of its place, moved to where it is."""
    if np.sort(np.hypot(*(others - at).T))[1] < 25 or not (at.min() > 20 and at.max() < 430):
        return
    from scipy import ndimage

    x, y = np.floor(at + 0.5).astype(int)
    here = (slice(y - 12, y + 13), slice(x - 12, x + 13))
    for band, stamp in enumerate(tile.psf.at(*at)):
        moved = ndimage.shift(stamp, at[::-1] - (y, x), order=5)[8:33, 8:33]
        good, sigma = ~tile.unusable[band][here], np.sqrt(tile.variance[band][here])
        model, data = (moved / sigma)[good], (tile.image[band][here] / sigma)[good]
        found, error = (model @ data) / (model @ model), 1 / np.sqrt(model @ model)
        assert abs(found - flux[band]) < 5 * error + 0.005 * flux[band]
        chi2 = ((data - found * model) ** 2).mean()
        assert chi2 < 1.6, (at, band, chi2)


@pytest.mark.skipif(not DP2.exists(), reason="needs ../shared/data/lsst/dp2_deep_coadd")
def test_it_is_read_as_lsst_images_reads_it() -> None:
    cells = pytest.importorskip("lsst.images.cells")
    header = plan(DP2, ("g", "r", "i"))
    tile = fits.read_tile(header, header.box, LSST)
    for band, file in enumerate(header.files):
        coadd = cells.CellCoadd.read(file.image)
        good = ~tile.unusable[band]
        np.testing.assert_array_equal(tile.image[band][good], coadd.image.array[good])
        np.testing.assert_array_equal(tile.variance[band][good], coadd.variance.array[good])
        x0, y0 = coadd.bbox.x.start, coadd.bbox.y.start
        for x, y in ((10, 10), (149, 151), (300, 299), (440, 440)):
            kernel = coadd.psf.compute_kernel_image(x=x + x0, y=y + y0).array
            np.testing.assert_allclose(tile.psf.at(x, y)[band], kernel, rtol=1e-5, atol=1e-9)
