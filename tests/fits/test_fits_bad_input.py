"""Every bad input is one clear sentence: of the whole input, of a tile, or of a cell."""

import bz2
import dataclasses
import gzip
import lzma

import numpy as np
import pytest
from astropy.io import fits as astrofits
from tile_files import PLANES, SHAPE, complete, pixels, planes, wcs_header, write

from raydeblend import fits
from raydeblend.errors import ConfigError, NoDataError, TileError
from raydeblend.survey import get_survey
from raydeblend.tile import Box

HSC = get_survey("HSC")


def failure(root, bands=("g",), **options):
    """The reason why the only bad tile is bad; the good one beside it is found."""
    write(root, "good_g.fits", complete())
    headers, failures = fits.find_tiles(str(root), bands, **options)
    assert [header.name for header in headers] == ["good"]
    assert [bad.name for bad in failures] == ["bad"]
    assert "\n" not in failures[0].reason
    return failures[0].reason


def header_of(root, hdus):
    write(root, "a_g.fits", hdus)
    ((header,), _) = fits.find_tiles(str(root), ("g",))
    return header


# --- the whole input


@pytest.mark.parametrize(
    ("root", "options", "sentence"),
    [
        ("nothing", {}, r"nothing does not exist$"),
        ("", {"image_pattern": "{tile}-{band}.fit"}, r"'\{tile\}-\{band\}.fit' matches none of"),
        ("", {"bands": ("z", "y")}, r"below .* in the bands z, y; nor is one named as calexp-"),
        ("", {"image_pattern": "{tile}.fits"}, r"must hold \{tile\} and \{band\}"),
        ("", {"manifest": "nothing.csv"}, "there is no manifest nothing.csv"),
    ],
)
def test_input_that_cannot_be_used(tmp_path, root, options, sentence):
    write(tmp_path, "a_g.fits", complete())
    with pytest.raises(ConfigError, match=sentence):
        fits.find_tiles(str(tmp_path / root), **{"bands": ("g",), **options})


def test_an_empty_directory(tmp_path):
    with pytest.raises(ConfigError, match=r"matches none of the 0 files below .*"):
        fits.find_tiles(str(tmp_path), ("g",))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tile,band\na,g\n", "has no column 'image'"),
        ("tile,band,image\na,z,x.fits\n", "lists no tile in the bands g"),
        ("tile,band,image\na,g,x.fits\na,g,y.fits\n", "names tile 'a' in band 'g' twice"),
        ("tile,band,image\na,g,\n", "has a row without tile, band or image"),
        ("", "is not a Parquet or CSV table"),
    ],
)
def test_manifests_that_cannot_be_used(tmp_path, text, sentence):
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(text)
    with pytest.raises(ConfigError, match=sentence):
        fits.find_tiles(str(tmp_path), ("g",), manifest=str(manifest))


# --- a tile


@pytest.mark.parametrize("content", [b"", b"not a FITS file at all", b"SIMPLE  =" + b" " * 3000])
def test_not_fits(tmp_path, content):
    (tmp_path / "bad_g.fits").write_bytes(content)
    assert "cannot be read as FITS" in failure(tmp_path)


@pytest.mark.parametrize("kept", [0.999, 0.61, 0.3, 0.1])
def test_truncated(tmp_path, kept):
    """Cut in the last pixels, in an earlier plane, in a header."""
    path = tmp_path / "bad_g.fits"
    write(tmp_path, path.name, complete())
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    reason = failure(tmp_path)
    assert "truncated" in reason or "damaged" in reason


def test_cut_within_a_later_header(tmp_path):
    """The planes before the cut are whole, but the mask must not count as absent."""
    path = tmp_path / "bad_g.fits"
    write(tmp_path, path.name, complete())
    with astrofits.open(path) as hdus:
        start = hdus["MASK"].fileinfo()["hdrLoc"]
    path.write_bytes(path.read_bytes()[: start + 1000])
    assert "no HDU can be read after byte" in failure(tmp_path)


PACK = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("pack", PACK)
def test_packed_files_whatever_they_are_called(tmp_path, pack):
    path = tmp_path / "a_g.fits"
    write(tmp_path, path.name, complete(shape=(200, 300)))
    content = path.read_bytes()
    path.write_bytes(PACK[pack](content))
    ((header,), failures) = fits.find_tiles(str(tmp_path), ("g",))
    assert not failures
    tile = fits.read_tile(header, header.box, HSC)
    assert tile.flags == 0
    np.testing.assert_allclose(tile.image[0], pixels(shape=(200, 300)) * 57.544, rtol=1e-4)
    # A name that promises what is not so.
    (tmp_path / "b_g.fits.gz").write_bytes(content)
    ((plain,), _) = fits.find_tiles(str(tmp_path), ("g",), "{tile}_{band}.fits.gz")
    assert fits.read_tile(plain, plain.box, HSC).flags == 0


@pytest.mark.parametrize("pack", PACK)
@pytest.mark.parametrize("kept", [0.995, 0.5])
def test_packed_files_that_are_cut(tmp_path, pack, kept):
    """The HDUs before the cut are whole, but the rest must not count as absent."""
    path = tmp_path / "bad_g.fits"
    write(tmp_path, path.name, complete(shape=(200, 300)))
    content = PACK[pack](path.read_bytes())
    path.write_bytes(content[: int(kept * len(content))])
    reason = failure(tmp_path)
    assert "damaged" in reason or "cannot be read as FITS" in reason


def test_a_manifest_names_a_file_that_is_not_there(tmp_path):
    write(tmp_path, "good_g.fits", complete())
    manifest = tmp_path / "m.csv"
    manifest.write_text("tile,band,image\ngood,g,good_g.fits\nbad,g,gone.fits\n")
    _, (bad,) = fits.find_tiles(str(tmp_path), ("g",), manifest=str(manifest))
    assert bad.reason == f"there is no file {tmp_path}/gone.fits"


@pytest.mark.parametrize(
    ("hdus", "sentence"),
    [
        (complete(wcs=astrofits.Header()), "has no celestial WCS"),
        (complete(wcs=wcs_header(CTYPE1="LINEAR", CTYPE2="LINEAR")), "has no celestial WCS"),
        (complete(wcs=wcs_header(CD1_1=0.0)), "has a bad WCS"),
        (complete(wcs=wcs_header(CTYPE1="RA---XXX", CTYPE2="DEC--XXX")), "has a bad WCS"),
        (complete(zero={}), "has no zero point"),
        (complete(zero={"FLUXMAG0": 0.0}), "unusable zero point: FLUXMAG0 = 0.0"),
        (complete(zero={"MAGZERO": "unknown"}), "unusable zero point: MAGZERO = 'unknown'"),
        (complete(mask=np.zeros((5, 5), np.int32)), "IMAGE is 40×50 pixels, MASK 5×5"),
        (complete(variance=np.zeros((5, 5))), "IMAGE is 40×50 pixels, VARIANCE 5×5"),
        (astrofits.HDUList([astrofits.PrimaryHDU()]), "holds no image"),
        (astrofits.HDUList([astrofits.PrimaryHDU(np.zeros((2, 5, 5)))]), "holds no image"),
    ],
)
def test_headers_that_cannot_be_used(tmp_path, hdus, sentence):
    path = write(tmp_path, "bad_g.fits", hdus)
    reason = failure(tmp_path)
    assert sentence in reason
    assert path in reason


def test_bands_of_different_shape(tmp_path):
    write(tmp_path, "bad_g.fits", complete())
    write(tmp_path, "bad_r.fits", complete(shape=(40, 51)))
    assert "bands differ in shape" in failure(tmp_path, ("g", "r"))


SIP = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"CRPIX1": 1.5}),
        # Off by 2e-4 × 39² pixels in x at the far edge.
        ({}, {**SIP, "A_2_0": 2e-4, "B_0_2": 0.0}),
        # The mirror image about a diagonal, on which two corners lie.
        ({"CRPIX1": 20.5, "CRPIX2": 20.5}, {"CRPIX1": 20.5, "CRPIX2": 20.5, "CD1_1": 0.0,
          "CD2_2": 0.0, "CD1_2": -0.2 / 3600, "CD2_1": 0.2 / 3600}),
    ],
)  # fmt: skip
def test_bands_on_different_grids(tmp_path, one, other):
    for band, cards in (("g", one), ("r", other)):
        write(tmp_path, f"bad_{band}.fits", complete(shape=(40, 40), wcs=wcs_header(**cards)))
    assert "are not on one pixel grid" in failure(tmp_path, ("g", "r"))


def test_bands_of_one_distorted_grid(tmp_path):
    for band, a_2_0 in (("g", 2e-4), ("r", 2.01e-4)):
        wcs = wcs_header(**SIP, A_2_0=a_2_0, B_0_2=0.0)
        write(tmp_path, f"a_{band}.fits", complete(wcs=wcs))
    _, failures = fits.find_tiles(str(tmp_path), ("g", "r"))
    assert not failures


# --- a cell


@pytest.mark.parametrize(
    "changes",
    [
        {"image": np.full(SHAPE, np.nan, np.float32)},
        {"image": np.zeros(SHAPE, np.float32)},
        {"variance": np.zeros(SHAPE, np.float32)},
    ],
)
def test_no_usable_pixels(tmp_path, changes):
    header = header_of(tmp_path, complete(**changes))
    with pytest.raises(TileError, match="a: no band has usable pixels"):
        fits.read_tile(header, header.box, HSC)


@pytest.mark.parametrize(
    ("plane", "image"),
    [("NO_DATA", pixels()), ("BAD", np.full(SHAPE, np.nan, np.float32)), ("BAD", np.zeros(SHAPE))],
)
def test_where_nothing_was_observed_the_masks_are_right(tmp_path, plane, image):
    mask = np.full(SHAPE, 1 << PLANES[plane], np.int32)
    header = header_of(tmp_path, complete(image=image, mask=mask))
    with pytest.raises(NoDataError, match="the masks rule out all"):
        fits.read_tile(header, header.box, HSC)


def test_pixels_that_hold_data_come_back_although_they_are_masked(tmp_path):
    mask = np.full(SHAPE, 1 << PLANES["BAD"], np.int32)
    mask[:, :10] = 1 << PLANES["NO_DATA"]
    header = header_of(tmp_path, complete(mask=mask))
    tile = fits.read_tile(header, header.box, HSC)
    assert tile.unusable.all()
    # Of 50 columns 10 are called not observed.
    assert tile.filled == (pytest.approx(40 / 50),)


def test_no_usable_pixels_and_no_variance(tmp_path):
    header = header_of(tmp_path, planes(image=np.full(SHAPE, np.nan, np.float32)))
    with pytest.raises(TileError, match="a: no band has usable pixels"):
        fits.read_tile(header, header.box, HSC)


@pytest.mark.parametrize("compression", ["RICE_1", "GZIP_2", "HCOMPRESS_1"])
def test_damaged_compressed_pixels(tmp_path, compression):
    image = astrofits.CompImageHDU(
        pixels(shape=(200, 200)), wcs_header(MAGZERO=27.0), compression_type=compression
    )
    header = header_of(tmp_path, astrofits.HDUList([astrofits.PrimaryHDU(), image]))
    path = tmp_path / "a_g.fits"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = np.random.default_rng(0).bytes(4000)
    path.write_bytes(content)
    with pytest.raises(TileError, match=r"a_g.fits (is damaged|cannot be read as FITS): "):
        fits.read_tile(header, header.box, HSC)


@pytest.mark.parametrize(
    ("stamp", "sentence"),
    [
        (np.ones((4, 5)), "has 4×5 pixels, not odd sides"),
        (np.ones((5, 4)), "has 5×4 pixels, not odd sides"),
        (np.zeros((5, 5)), "sums to 0, not to 1"),
        (np.array([[1.0, -2.0, 1.0]]), "sums to 0, not to 1"),
        (-np.ones((3, 3)), "sums to -9, not to 1"),
        (np.full((3, 3), np.nan), "holds NaN or infinite pixels"),
    ],
)
def test_psf_stamps_that_cannot_be_used(tmp_path, stamp, sentence):
    header = header_of(tmp_path, complete(psf=stamp))
    with pytest.raises(TileError, match=f"a_g.fits: the PSF stamp {sentence}"):
        fits.read_tile(header, header.box, HSC)


def test_psf_file_without_a_stamp(tmp_path):
    write(tmp_path, "a_g_psf.fits", astrofits.HDUList([astrofits.PrimaryHDU()]))
    header = header_of(tmp_path, complete())
    with pytest.raises(TileError, match=r"a_g_psf.fits holds no image"):
        fits.read_tile(header, header.box, HSC)


@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_files_that_vanish_or_change_after_planning(tmp_path):
    header = header_of(tmp_path, complete())
    with pytest.raises(TileError, match="outside the tile"):
        fits.read_tile(header, Box(100, 100, 200, 200), HSC)
    path = tmp_path / "a_g.fits"
    path.write_bytes(path.read_bytes()[:10000])
    with pytest.raises(TileError, match="truncated"):
        fits.read_tile(header, header.box, HSC)
    path.unlink()
    with pytest.raises(TileError, match="there is no file"):
        fits.read_tile(header, header.box, HSC)
    none = dataclasses.replace(header, files=(None,))
    with pytest.raises(TileError, match="no band has usable pixels"):
        fits.read_tile(none, header.box, HSC)
