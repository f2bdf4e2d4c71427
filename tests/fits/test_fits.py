"""Good tiles: what the reader returns is recomputed with astropy's plain reading."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits as astrofits
from astropy.wcs import WCS
from numpy.testing import assert_allclose
from pyarrow import csv, parquet
from s3 import s3_server  # noqa: F401
from tile_files import PLANES, SHAPE, complete, pixels, planes, wcs_header, write

from raydeblend import fits, storage
from raydeblend.errors import ConfigError
from raydeblend.flags import Flag
from raydeblend.survey import get_survey, nominal_psf
from raydeblend.tile import Box

HSC = get_survey("HSC")
REAL = Path(__file__).parents[3] / "shared/data/hsc/calexp_fields"
NJY = 57.544  # one count at zero point 27: 10^((31.4 - 27) / 2.5)


def read(root, bands=("g",), box=None, **options):
    (header,), failures = fits.find_tiles(str(root), bands, **options)
    assert not failures
    return fits.read_tile(header, box or header.box, HSC)


@pytest.mark.parametrize(
    ("cards", "in_image", "argument", "njy"),
    [
        ({"FLUXMAG0": 63095734448.01944}, {}, None, 57.544),
        ({}, {"FLUXMAG0": 63095734448.01944}, None, 57.544),
        ({"MAGZERO": 31.4}, {}, None, 1.0),
        ({}, {"MAGZERO": 30}, None, 3.6308),
        ({}, {}, 28.9, 10.0),
        # FLUXMAG0 goes before MAGZERO, and both before the argument.
        ({"MAGZERO": 20.0}, {"FLUXMAG0": 10**12.56}, 25.0, 1.0),
    ],
)
def test_zero_points(tmp_path, cards, in_image, argument, njy):
    image = pixels()
    hdus = complete(image=image, zero=cards, wcs=wcs_header(**in_image))
    write(tmp_path, "a_g.fits", hdus)
    tile = read(tmp_path, zeropoint=argument)
    assert tile.image[0] == pytest.approx(image * njy, rel=1e-4)
    assert tile.variance[0] == pytest.approx(np.full(SHAPE, 4 * njy**2), rel=1e-4)


def test_what_is_complete_has_no_flags(tmp_path):
    write(tmp_path, "a_g.fits", complete())
    tile = read(tmp_path)
    assert tile.flags == 0
    assert not tile.unusable.any()
    assert tile.header.pixel_scale == pytest.approx(0.2)
    assert tile.image.dtype == tile.variance.dtype == tile.psf.at(0, 0)[0].dtype == np.float32


@pytest.mark.parametrize("names", [True, False])
def test_planes_by_name_and_by_position(tmp_path, names):
    mask = np.zeros(SHAPE, np.int32)
    mask[3, 4] = 1 << PLANES["BAD"]
    hdus = complete(mask=mask, names=names)
    if names:  # in any order
        hdus = astrofits.HDUList([hdus[0], hdus[4], hdus[3], hdus[2], hdus[1]])
    write(tmp_path, "a_g.fits", hdus)
    tile = read(tmp_path)
    assert tile.image[0, 5, 6] == pytest.approx(pixels()[5, 6] * NJY, rel=1e-4)
    assert tile.variance[0, 5, 6] == pytest.approx(4 * NJY**2, rel=1e-4)
    assert np.argwhere(tile.unusable[0]).tolist() == [[3, 4]]
    assert tile.flags == 0


def test_image_in_the_primary_hdu(tmp_path):
    header = wcs_header(MAGZERO=27.0)
    write(tmp_path, "a_g.fits", astrofits.HDUList([astrofits.PrimaryHDU(pixels(), header)]))
    tile = read(tmp_path)
    assert tile.image[0] == pytest.approx(pixels() * NJY, rel=1e-4)
    assert Flag(tile.flags) == Flag.VARIANCE_ESTIMATED | Flag.PSF_NOMINAL


def test_mask_planes_are_named_in_the_header(tmp_path):
    mask = np.zeros(SHAPE, np.int32)
    for x, name in enumerate(PLANES):
        mask[2, x] = 1 << PLANES[name]
    write(tmp_path, "a_g.fits", complete(mask=mask))
    tile = read(tmp_path)
    assert tile.unusable[0, 2, :4].tolist() == [True, True, False, True]
    assert np.argwhere(tile.saturated).tolist() == [[2, 1]]
    assert (tile.image[0, 2, :4] == 0).tolist() == [True, True, False, True]
    only_detected = fits.read_tile(tile.header, tile.box, HSC, ("DETECTED",))
    assert np.argwhere(only_detected.unusable[0]).tolist() == [[2, 2]]
    assert only_detected.saturated.sum() == 1


def test_missing_mask_variance_and_psf(tmp_path):
    image = pixels(1, (200, 200))
    image[50:60, 50:60] += 1000  # a source must not widen the noise
    write(tmp_path, "a_g.fits", planes(image=image))
    tile = read(tmp_path)
    assert Flag(tile.flags) == Flag.VARIANCE_ESTIMATED | Flag.PSF_NOMINAL
    assert not tile.unusable.any()
    # The pixels were drawn with sigma 2; 40,000 of them give the MAD to 0.6 %.
    assert np.sqrt(tile.variance[0, 0, 0]) / NJY == pytest.approx(2, rel=0.03)
    # The nominal PSF, drawn at this tile's 0.2 arcsec a pixel: more light in each.
    assert tile.psf.at(0, 0)[0].sum() == pytest.approx(1, abs=1e-5)
    assert tile.psf.at(0, 0)[0].max() / nominal_psf(HSC, "g").max() == pytest.approx(
        (0.2 / HSC.pixel_scale) ** 2, rel=0.04
    )


def test_bad_pixels_are_unusable_and_zero(tmp_path):
    image, variance = pixels(), np.full(SHAPE, 4.0, np.float32)
    image[0, :2] = np.nan, np.inf
    variance[1, :4] = 0, -1, np.nan, np.inf
    write(tmp_path, "a_g.fits", complete(image=image, variance=variance))
    tile = read(tmp_path)
    assert np.argwhere(tile.unusable[0]).tolist() == [[0, 0], [0, 1]] + [[1, x] for x in range(4)]
    assert (tile.image[tile.unusable] == 0).all()
    assert (tile.variance > 0).all()
    assert np.isfinite(tile.variance).all()


@pytest.mark.parametrize("shape", [(3, 3), (5, 7), (43, 41)])
def test_psf_is_normalized_and_need_not_be_square(tmp_path, shape):
    stamp = np.random.default_rng(0).uniform(0, 3, shape)
    write(tmp_path, "a_g.fits", complete())
    psf = astrofits.HDUList([astrofits.PrimaryHDU(stamp)])
    write(tmp_path, "a_g_psf.fits", psf)
    tile = read(tmp_path)  # the file goes before the HDU
    assert tile.psf.at(0, 0)[0] == pytest.approx(stamp / stamp.sum(), rel=1e-5)


def test_reading_a_box_equals_cutting_the_whole(tmp_path):
    write(tmp_path, "a_g.fits", complete(0))
    write(tmp_path, "a_r.fits", complete(1))
    whole = read(tmp_path, ("g", "r"))
    box = Box(10, 20, 31, 45)
    part = read(tmp_path, ("g", "r"), box)
    assert np.array_equal(part.image, whole.image[:, 10:31, 20:45])
    assert np.array_equal(part.variance, whole.variance[:, 10:31, 20:45])
    clipped = read(tmp_path, ("g", "r"), Box(-5, -5, 10, 100))
    assert clipped.box == Box(0, 0, 10, 50)


def test_compressed_images(tmp_path):
    image = pixels()
    hdus = [astrofits.PrimaryHDU(), astrofits.CompImageHDU(image, wcs_header(), name="IMAGE")]
    hdus[0].header["FLUXMAG0"] = 10**12.56
    write(tmp_path, "a_g.fits", astrofits.HDUList(hdus))
    # The default compression keeps a sixteenth of the noise.
    assert np.abs(read(tmp_path).image[0] - image).max() < 2 / 16


def test_a_tile_that_lacks_a_band_is_read_in_the_others(tmp_path):
    write(tmp_path, "a_g.fits", complete())
    write(tmp_path, "a_i.fits", complete())
    tile = read(tmp_path, ("g", "r", "i"))
    assert tile.header.files[1] is None
    assert Flag(tile.flags) == Flag.BAND_MISSING
    assert tile.unusable.all(axis=(1, 2)).tolist() == [False, True, False]
    assert (tile.image[1] == 0).all()
    assert tile.psf.at(0, 0)[1].sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"image": np.full(SHAPE, np.nan, np.float32)},
        {"image": np.full(SHAPE, 3.0, np.float32)},
        {"variance": np.zeros(SHAPE, np.float32)},
        {"mask": np.full(SHAPE, 1 << PLANES["NO_DATA"], np.int32)},
    ],
)
def test_a_band_without_usable_pixels_counts_as_missing(tmp_path, changes):
    write(tmp_path, "a_g.fits", complete(**changes))
    write(tmp_path, "a_r.fits", complete())
    tile = read(tmp_path, ("g", "r"))
    assert Flag(tile.flags) == Flag.BAND_MISSING
    assert tile.unusable.all(axis=(1, 2)).tolist() == [True, False]


def test_write_band_writes_what_is_read(tmp_path):
    image, variance = pixels(3), np.full(SHAPE, 9.0, np.float32)
    mask = np.zeros(SHAPE, np.int32)
    mask[1, 1] = 2
    stamp = np.outer([1, 2, 1], [1, 2, 1]) / 16
    path = str(tmp_path / "sub" / "a_g.fits")
    fits.write_band(path, image, mask, variance, wcs_header(), stamp, 10**12.56, PLANES)
    with astrofits.open(path) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "IMAGE", "MASK", "VARIANCE", "PSF"]
        assert hdus["MASK"].header["MP_SAT"] == 1
        assert WCS(hdus["IMAGE"].header).wcs_pix2world(0, 0, 0) == pytest.approx([150, 2])
    tile = read(tmp_path, image_pattern="sub/{tile}_{band}.fits")
    assert tile.image[0][mask == 0] == pytest.approx(image[mask == 0], rel=1e-6)
    assert tile.variance[0] == pytest.approx(variance, rel=1e-6)
    assert tile.psf.at(0, 0)[0] == pytest.approx(stamp, rel=1e-6)
    assert np.argwhere(tile.saturated).tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("pattern", "names", "tiles"),
    [
        ("{tile}_{band}.fits", ["1,2.5_300_g.fits", "x_y_g.fits"], ["1,2.5_300", "x_y"]),
        ("{band}/{tile}/calexp-{tile}.fits", ["g/9,1/calexp-9,1.fits"], ["9,1"]),
        ("{tile}[{band}].fits", ["a+b[g].fits"], ["a+b"]),
    ],
)
def test_patterns(tmp_path, pattern, names, tiles):
    for name in [*names, "a_q.fits", "deep/down_g.fits", "g/9,1/calexp-9,2.fits"]:
        write(tmp_path, name, complete())
    headers, _ = fits.find_tiles(str(tmp_path), ("g",), pattern)
    assert [header.name for header in headers] == tiles


def test_psf_files_are_not_taken_for_images(tmp_path):
    write(tmp_path, "a_g.fits", complete())
    write(tmp_path, "a_g_psf.fits", astrofits.HDUList([astrofits.PrimaryHDU(np.eye(5))]))
    tile = read(tmp_path)
    assert tile.header.name == "a"
    assert tile.psf.at(0, 0)[0] == pytest.approx(np.eye(5) / 5)


@pytest.mark.parametrize("ending", [".gz", ".fz"])
def test_the_patterns_match_compressed_files(tmp_path, ending):
    write(tmp_path, f"a_g.fits{ending}", complete(psf=None))
    write(tmp_path, f"a_g_psf.fits{ending}", astrofits.HDUList([astrofits.PrimaryHDU(np.eye(5))]))
    tile = read(tmp_path)
    assert tile.header.name == "a"
    assert tile.psf.at(0, 0)[0] == pytest.approx(np.eye(5) / 5)
    write(tmp_path, "a_g.fits", complete())
    with pytest.raises(ConfigError, match=r"a_g.fits.* are of one tile and band \(a g\)"):
        read(tmp_path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_manifest(tmp_path, suffix):
    write(tmp_path, "one.fits", complete(0))
    other = write(tmp_path / "elsewhere", "two.fits", complete(1))
    write(tmp_path, "psf.fits", astrofits.HDUList([astrofits.PrimaryHDU(np.eye(5))]))
    table = pa.table(
        {
            "tile": ["0013", "0013", "0013"],
            "band": ["g", "r", "unused"],
            "image": ["one.fits", other, "nothing.fits"],
            "psf": ["psf.fits", None, None],
        }
    )
    path = str(tmp_path / f"manifest{suffix}")
    csv.write_csv(table, path) if suffix == ".csv" else parquet.write_table(table, path)
    tile = read(tmp_path, ("g", "r"), manifest=path)
    assert tile.header.name == "0013"
    assert tile.image[1] == pytest.approx(pixels(1) * NJY, rel=1e-4)
    assert tile.psf.at(0, 0)[0] == pytest.approx(np.eye(5) / 5)


def test_tiles_on_s3_are_the_same_as_local_ones(s3_server, tmp_path):  # noqa: F811
    for band, seed in (("g", 0), ("r", 1)):
        path = write(tmp_path / "in", f"a_{band}.fits", complete(seed, (300, 300)))
        storage.write_bytes(f"s3://tiles/run/a_{band}.fits", Path(path).read_bytes())
    box = Box(100, 50, 250, 200)
    local = read(tmp_path / "in", ("g", "r"), box)
    remote = read("s3://tiles/run", ("g", "r"), box)
    assert np.array_equal(local.image, remote.image)
    assert np.array_equal(local.variance, remote.variance)
    assert remote.header.files[0].image == "s3://tiles/run/a_g.fits"
    with pytest.raises(ConfigError, match="matches none of the 2 files below s3://tiles/run"):
        fits.find_tiles("s3://tiles/run", ("z",))


@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared/data/hsc/calexp_fields")
def test_the_real_hsc_coadd():
    patterns = {
        "image_pattern": "{tile}_300x300_{band}.fits",
        "psf_pattern": "{tile}_{band}_psf.fits",
    }
    tile = read(REAL, ("g", "r", "i"), **patterns)
    assert tile.header.name == "149.2558,2.5652"
    assert tile.image.shape == (3, 301, 301)
    assert tile.header.pixel_scale == pytest.approx(0.168, abs=1e-4)
    assert [psf.shape for psf in tile.psf.at(0, 0)] == [(43, 41), (43, 41), (43, 43)]
    assert tile.flags == 0
    for band, name in enumerate("gri"):
        with astrofits.open(REAL / f"{tile.header.name}_300x300_{name}.fits") as hdus:
            bad = (hdus[2].data & 0b1000110001011) != 0  # bits 0 1 3 7 8 12, as MP_ cards name
            assert np.array_equal(tile.unusable[band], bad)
            assert_allclose(tile.image[band][~bad], hdus[1].data[~bad] * NJY, rtol=1e-4)
            assert_allclose(tile.variance[band][~bad], hdus[3].data[~bad] * NJY**2, rtol=1e-4)
            sky = WCS(hdus[1].header).wcs_pix2world(150, 150, 0)
        with astrofits.open(REAL / f"{tile.header.name}_{name}_psf.fits") as hdus:
            stamp = hdus[0].data
            assert_allclose(tile.psf.at(0, 0)[band], stamp / stamp.sum(), rtol=1e-4, atol=1e-7)
    wcs = WCS(astrofits.Header.fromstring(tile.header.wcs))
    assert_allclose(wcs.wcs_pix2world(150, 150, 0), sky, atol=1e-9)
