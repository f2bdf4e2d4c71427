"""Planes are what their names say, in the archives' spellings, or the file is refused."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as astrofits
from tile_files import pixels, wcs_header, write

from raydeblend import fits
from raydeblend.errors import TileError
from raydeblend.flags import Flag
from raydeblend.survey import get_survey
from raydeblend.tile import Tile

HSC = get_survey("HSC")
NJY = 57.544
SHAPE = (48, 50)
ONES = np.ones(SHAPE, np.float32)
BITS = np.zeros(SHAPE, np.int16)
BITS[3, 4] = 1
NAMED = {"MP_BAD": 0}


def hdus(*planes, primary=None):
    """Planes of (name, pixels) or (name, pixels, cards); the image's pixels are `IMAGE`."""
    first = astrofits.PrimaryHDU(primary, wcs_header() if primary is not None else None)
    first.header["FLUXMAG0"] = 10**10.8
    rest = []
    for name, data, *cards in planes:
        header = wcs_header() if data is IMAGE else None
        rest.append(astrofits.ImageHDU(data, header, name=name))
        rest[-1].header.update(cards[0] if cards else {})
    return astrofits.HDUList([first, *rest])


IMAGE = pixels(shape=SHAPE)
MASK = ("MASK", BITS, NAMED)
VARIANCE = ("VARIANCE", 4 * ONES)


def read(folder: Path, content: astrofits.HDUList) -> Tile:
    write(folder, "a_g.fits", content)
    (header,), failures = fits.find_tiles(str(folder), ("g",))
    assert not failures
    return fits.read_tile(header, header.box, HSC)


def refused(folder: Path, content: astrofits.HDUList) -> str:
    write(folder, "bad_g.fits", content)
    write(folder, "good_g.fits", hdus(("IMAGE", IMAGE), VARIANCE))
    headers, (bad,) = fits.find_tiles(str(folder), ("g",))
    assert [header.name for header in headers] == ["good"]
    assert bad.name == "bad"
    return bad.reason


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VARIANCE", 4.0),
        ("var", 4.0),
        ("IVAR", 0.25),
        ("InvVar", 0.25),
        ("inverse variance", 0.25),
        ("WGT", 0.25),
        ("ERR", 2.0),
        ("rms", 2.0),
        ("Sigma", 2.0),
        ("STDDEV", 2.0),
        ("NOISE", 2.0),
        ("3-4-F.RMS", 2.0),
    ],
)
def test_noise_is_read_as_what_it_is(tmp_path: Path, name: str, value: float) -> None:
    tile = read(tmp_path, hdus(("SCI", IMAGE), (name, value * ONES)))
    np.testing.assert_allclose(tile.variance[0], 4 * NJY**2, rtol=1e-4)
    assert Flag(tile.flags) == Flag.PSF_NOMINAL


@pytest.mark.parametrize(("name", "good"), [("WGT", 0.25), ("ERR", 2.0)])
def test_no_weight_and_no_error_are_no_data(tmp_path: Path, name: str, good: float) -> None:
    values = good * ONES
    values[2, :4] = 0, -1, np.nan, np.inf
    tile = read(tmp_path, hdus(("SCI", IMAGE), (name, values)))
    assert np.argwhere(tile.unusable[0]).tolist() == [[2, x] for x in range(4)]


def test_names_go_before_positions(tmp_path: Path) -> None:
    content = hdus(("WGT", ONES / 4), ("MSK", BITS, NAMED), ("SCI", IMAGE))
    tile = read(tmp_path, content)
    np.testing.assert_allclose(tile.image[0, 9], IMAGE[9] * NJY, rtol=1e-4)
    np.testing.assert_allclose(tile.variance[0], 4 * NJY**2, rtol=1e-4)
    assert np.argwhere(tile.unusable[0]).tolist() == [[3, 4]]


def test_an_image_in_the_primary_hdu_with_named_planes(tmp_path: Path) -> None:
    tile = read(tmp_path, hdus(MASK, VARIANCE, primary=IMAGE))
    np.testing.assert_allclose(tile.variance[0], 4 * NJY**2, rtol=1e-4)
    assert tile.unusable.sum() == 1


def test_the_total_error_goes_before_its_parts_and_weights(tmp_path: Path) -> None:
    """JWST's i2d."""
    names = ("CON", "WHT", "VAR_POISSON", "VAR_RNOISE")
    tile = read(tmp_path, hdus(("SCI", IMAGE), ("ERR", 2 * ONES), *((n, ONES) for n in names)))
    np.testing.assert_allclose(tile.variance[0], 4 * NJY**2, rtol=1e-4)


@pytest.mark.parametrize("name", ["EXP", "NREAD", "CTX", "COV", "SKY", "NOISE_REALIZATIONS/0"])
def test_what_is_no_noise_is_not_taken_for_one(tmp_path: Path, name: str) -> None:
    tile = read(tmp_path, hdus(("SCI", IMAGE), MASK, (name, 100 * ONES)))
    assert Flag(tile.flags) == Flag.PSF_NOMINAL | Flag.VARIANCE_ESTIMATED
    assert np.sqrt(tile.variance[0, 0, 0]) / NJY == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(
    "cards",
    [{"WHT_TYPE": "IVM"}, {"BUNIT": "1/adu2"}, {"BUNIT": "adu**-2"}],
)
def test_a_weight_is_what_its_cards_say(tmp_path: Path, cards: dict[str, str]) -> None:
    tile = read(tmp_path, hdus(("SCI", IMAGE, {"BUNIT": "adu"}), ("WHT", ONES / 4, cards)))
    np.testing.assert_allclose(tile.variance[0], 4 * NJY**2, rtol=1e-4)


@pytest.mark.parametrize(
    ("planes", "sentence"),
    [
        ([("WHT", ONES)], r"HDU 2 (WHT) is a weight of unknown meaning; name it IVAR if"),
        ([("WEIGHT", ONES)], r"HDU 2 (WEIGHT) is a weight of unknown meaning"),
        ([("VAR_POISSON", ONES)], "HDU 2 (VAR_POISSON) is a part of the variance"),
        ([("FOO", ONES)], "nothing tells what HDU 2 (FOO) is; known names: IMAGE"),
        ([VARIANCE, ("FOO", BITS)], "nothing tells what HDU 3 (FOO) is"),
        ([VARIANCE, ("ERR", ONES)], "more than one variance or error: HDU 2 (VARIANCE), HDU 3"),
        ([VARIANCE, ("SCI", IMAGE)], "more than one image: HDU 1 (IMAGE), HDU 3 (SCI)"),
        ([MASK, ("DQ", BITS, NAMED)], "more than one mask"),
        (
            [("MASK", BITS)],
            "HDU 2 (MASK) is a mask of integers whose planes have no names that the",
        ),
        ([("DQ", BITS)], "HDU 2 (DQ) is a mask of integers whose planes have no names"),
        ([("MASK", ONES)], "is a mask of floating-point numbers whose planes have no names"),
        ([("MASK", BITS, {"MSKN0000": "LOST"})], "MSKN cards are those of lsst-dp2 and name LOST"),
        ([("MASK", BITS, {"MP_BAD": 16})], "has no such bit: MP_BAD = 16"),
        ([("MASK", BITS, {"MP_BAD": "0"})], "has no such bit: MP_BAD = '0'"),
        ([("VARIANCE", ONES, {"EXTTYPE": "MASK"})], "HDU 2 has two names, VARIANCE and MASK"),
        ([("VARIANCE", ONES, {"BUNIT": "1/adu2"})], "variance of an image in adu, but its BUNIT"),
        ([("VARIANCE", ONES, {"BUNIT": "adu"})], "variance of an image in adu, but its BUNIT"),
        ([("ERR", ONES, {"BUNIT": "adu**2"})], "error of an image in adu, but its BUNIT"),
        ([VARIANCE, ("PSF", np.ones((2, 2, 5, 5)))], "where the cells of the PSF (2×2×5×5) lie"),
        ([("VARIANCE", np.ones((2, *SHAPE)))], "HDU 2 (VARIANCE) has 3 axes (2×48×50), not two"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, planes, sentence: str) -> None:
    reason = refused(tmp_path, hdus(("IMAGE", IMAGE, {"BUNIT": "adu"}), *planes))
    assert sentence in reason
    assert "bad_g.fits" in reason


def test_positions_are_of_hdus_without_names_only(tmp_path: Path) -> None:
    """A float plane in the place of the mask, and an image twice."""
    reason = refused(tmp_path / "a", hdus((None, IMAGE), (None, ONES), (None, ONES)))
    assert "HDU 2 (no name) is a mask of floating-point numbers" in reason
    reason = refused(tmp_path / "b", hdus((None, BITS), (None, ONES), primary=IMAGE))
    assert "which is the image?" in reason


def test_nan_in_a_mask_masks_and_fractions_are_refused(tmp_path: Path) -> None:
    mask = BITS.astype(np.float32)
    mask[7] = np.nan
    tile = read(tmp_path / "a", hdus(("IMAGE", IMAGE), ("MASK", mask, NAMED), VARIANCE))
    assert tile.unusable[0, 7].all()
    assert tile.unusable.sum() == 51
    with pytest.raises(TileError, match="the mask holds fractions"):
        read(tmp_path / "b", hdus(("IMAGE", IMAGE), ("MASK", ONES / 2, NAMED), VARIANCE))


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.int64])
def test_the_highest_bit_of_every_integer(tmp_path: Path, kind: type) -> None:
    bit = np.iinfo(kind).bits - 1
    mask = np.zeros(SHAPE, kind)
    mask[5, 6] = np.array(1 << bit, np.uint64).astype(kind)
    tile = read(tmp_path, hdus(("IMAGE", IMAGE), ("MASK", mask, {"MP_SAT": bit}), VARIANCE))
    assert np.argwhere(tile.unusable[0]).tolist() == [[5, 6]]
    assert np.argwhere(tile.saturated).tolist() == [[5, 6]]


@pytest.mark.filterwarnings("ignore:Keyword name")
def test_a_mask_of_planes_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    mask = ("MASK", BITS, {"HIERARCH MP_BURNT": 0, "HIERARCH MP_SATURATED": 1})
    with pytest.raises(TileError, match="planes BURNT, SATURATED; none of them is one of BAD, SAT"):
        read(tmp_path, hdus(("IMAGE", IMAGE), mask, VARIANCE))


def test_pixels_that_contradict_the_variance_are_refused(tmp_path: Path) -> None:
    negative = np.where(IMAGE > 0, 4, -4).astype(np.float32)
    with pytest.raises(TileError, match=r"its variance is negative in 5\d %"):
        read(tmp_path / "a", hdus(("IMAGE", IMAGE), ("VARIANCE", negative)))
    # Pixels with a sigma of 2, whose variance says 0.2.
    with pytest.raises(TileError, match=r"noise of its pixels is \d+\.\d times what its variance"):
        read(tmp_path / "b", hdus(("IMAGE", IMAGE), ("VARIANCE", 0.04 * ONES)))


def test_bright_galaxies_do_not_contradict_the_variance(tmp_path: Path) -> None:
    """One that fills the tile, and a cluster of stars in every other pixel's wings."""
    y, x = np.mgrid[:450, :450]
    noise = pixels(shape=(450, 450))
    huge = 3e4 * np.exp(-((x - 225) ** 2 + (y - 225) ** 2) / (2 * 45.0**2))
    rng = np.random.default_rng(1)
    stars = np.zeros((450, 450))
    for at_x, at_y in rng.uniform(0, 450, (300, 2)):
        near = np.hypot(x - at_x, y - at_y) < 12
        stars[near] += 3e3 * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2)[near] / 8)
    for n, light in enumerate((huge, stars)):
        content = hdus(("IMAGE", IMAGE), VARIANCE)
        content["IMAGE"].data = (noise + light).astype(np.float32)
        content["VARIANCE"].data = np.full((450, 450), 4, np.float32)
        assert read(tmp_path / str(n), content).unusable.sum() == 0
