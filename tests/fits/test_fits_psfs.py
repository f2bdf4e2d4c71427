"""PSF stamps on their own pixel scale, against GalSim's on the tile's."""

from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.io import fits as astrofits
from tile_files import complete, wcs_header, write

from raydeblend import fits
from raydeblend.errors import TileError
from raydeblend.flags import Flag
from raydeblend.survey import get_survey
from raydeblend.tile import Tile

SCALE = 0.2
"""Of the tiles in `tile_files`."""
PSF = galsim.Moffat(beta=3, fwhm=0.8).shear(g1=0.06, g2=0.03)


def draw(scale: float, n: int, offset: tuple[float, float] = (0, 0), **how: object) -> np.ndarray:
    image = PSF.drawImage(nx=n, ny=n, scale=scale, offset=offset, **how).array
    return np.asarray(image, np.float64)


def read(folder: Path, stamp: np.ndarray, own_file: bool = True, **cards: object) -> Tile:
    if own_file:
        write(folder, "a_g.fits", complete(psf=None))
        primary = astrofits.PrimaryHDU(stamp)
        primary.header.update(cards)
        write(folder, "a_g_psf.fits", astrofits.HDUList([primary]))
    else:
        content = complete(psf=stamp)
        content["PSF"].header.update(cards)
        write(folder, "a_g.fits", content)
    ((header,), _) = fits.find_tiles(str(folder), ("g",))
    return fits.read_tile(header, header.box, get_survey("HSC"))


def check(tile: Tile, rel: float) -> None:
    """Compare the middle of a tile's PSF with GalSim's, both of sum 1."""
    stamp = tile.psf.at(0, 0)[0]
    side = min(stamp.shape[0], 41)
    cut = (stamp.shape[0] - side) // 2
    middle = stamp[cut : cut + side, cut : cut + side]
    truth = draw(SCALE, side)
    truth /= truth.sum()
    assert np.abs(middle / middle.sum() - truth).max() < rel * truth.max()
    assert stamp.sum() == pytest.approx(1, abs=1e-5)
    assert all(side % 2 for side in stamp.shape)


@pytest.mark.parametrize("own_file", [True, False])
@pytest.mark.parametrize(
    ("scale", "cards"),
    [
        (SCALE / 4, {"PIXSCALE": SCALE / 4}),
        (SCALE / 2, {"PIXELSCL": SCALE / 2, "OVERSAMP": 2}),
        (SCALE / 3, {"OVERSAMP": 3}),
        (0.168, {"CDELT1": -0.168 / 3600, "CDELT2": 0.168 / 3600}),
        (0.12, {"CD1_1": -0.12 / 3600, "CD2_2": 0.12 / 3600}),
        (0.1, {"CDELT1": 0.1, "CDELT2": 0.1, "CUNIT1": "arcsec", "CUNIT2": "arcsec"}),
        (0.3, {"PIXSCALE": 0.3}),
    ],
)
def test_a_stamp_on_its_own_scale_is_resampled(
    tmp_path: Path, own_file: bool, scale: float, cards: dict[str, object]
) -> None:
    n = int(12 / scale) // 2 * 2 + 1
    check(read(tmp_path, draw(scale, n), own_file, **cards), rel=0.005)


def test_psfex_samples_are_interpolated(tmp_path: Path) -> None:
    """PSFEx gives the PSF with the image's pixel in it, at steps of PSF_SAMP pixels."""
    seen = galsim.Convolve(PSF, galsim.Pixel(SCALE))
    step = 0.4
    stamp = seen.drawImage(nx=131, ny=131, scale=step * SCALE, method="sb").array
    check(read(tmp_path, np.asarray(stamp, np.float64), PSF_SAMP=step), rel=0.002)


@pytest.mark.parametrize(
    "cards",
    [
        {},
        {"PIXSCALE": SCALE},
        {"PSF_SAMP": 1.0},
        {"CDELT1": 1.0, "CDELT2": 1.0},
        {"CTYPE1": "LINEAR", "CDELT1": 2.0},
        dict(wcs_header()),
    ],
)
def test_a_stamp_on_the_tiles_pixels_is_taken_as_it_is(tmp_path: Path, cards) -> None:
    stamp = draw(SCALE, 41)
    tile = read(tmp_path, stamp, **cards)
    np.testing.assert_allclose(tile.psf.at(0, 0)[0], stamp / stamp.sum(), rtol=1e-5, atol=1e-9)
    assert tile.flags == 0


@pytest.mark.parametrize(
    ("cards", "sentence"),
    [
        ({"PIXSCALE": 0.1, "OVERSAMP": 4}, "PIXSCALE says 0.5, OVERSAMP says 0.25"),
        ({"PIXSCALE": 100.0}, "PIXSCALE says 500"),
        ({"PIXSCALE": "0.1"}, "PIXSCALE = '0.1' is no pixel scale"),
        ({"PSF_SAMP": -1.0}, "PSF_SAMP = -1.0 is no pixel scale"),
        ({"CD1_1": 5e-5, "CD2_2": 1e-5}, "pixels are not square"),
    ],
)
def test_scales_that_cannot_be_are_refused(tmp_path: Path, cards, sentence: str) -> None:
    with pytest.raises(TileError, match=rf"a_g_psf.fits: the PSF stamp.*{sentence}"):
        read(tmp_path, draw(SCALE, 41), **cards)


@pytest.mark.parametrize("offset", [(0.5, 0.0), (-0.3, 0.4), (2.0, -1.0)])
def test_a_stamp_off_its_center_is_moved(tmp_path: Path, offset: tuple[float, float]) -> None:
    check(read(tmp_path, draw(SCALE, 61, offset)), rel=0.01)


@pytest.mark.parametrize(("side", "flagged"), [(11, True), (15, True), (41, False), (61, False)])
def test_a_stamp_too_small_for_its_wings_is_flagged(
    tmp_path: Path, side: int, flagged: bool
) -> None:
    """The light outside is 5 and 3 % of the small ones', by GalSim, which draws unit flux."""
    assert (1 - draw(SCALE, side).sum() > 0.015) == flagged
    assert bool(read(tmp_path, draw(SCALE, side)).flags & Flag.PSF_TRUNCATED) == flagged


@pytest.mark.parametrize(("level", "is_refused"), [(-0.01, False), (-0.04, True)])
def test_a_stamp_with_too_much_sky_taken_off_is_refused(
    tmp_path: Path, level: float, is_refused: bool
) -> None:
    stamp = draw(SCALE, 61)
    stamp += level / stamp.size
    if is_refused:
        with pytest.raises(TileError, match=r"negative; .* is -[34]\.\d% of its light"):
            read(tmp_path, stamp)
    else:
        check(read(tmp_path, stamp), 0.02)


def test_several_images_without_the_name_psf_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a_g.fits", complete())
    images = [astrofits.ImageHDU(draw(s, 41), name=n) for n, s in (("OVER", 0.1), ("DET", 0.2))]
    write(tmp_path, "a_g_psf.fits", astrofits.HDUList([astrofits.PrimaryHDU(), *images]))
    ((header,), _) = fits.find_tiles(str(tmp_path), ("g",))
    with pytest.raises(TileError, match=r"none of them named PSF: HDU 1 \(OVER\), HDU 2 \(DET\)"):
        fits.read_tile(header, header.box, get_survey("HSC"))
