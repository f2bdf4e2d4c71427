"""Compressed images against astropy's reader."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as astrofits

from raydeblend.fits.tiled import GzippedImage, as_image, bits_of_pixel, image_header, image_shape

SLICES = (
    (slice(None), slice(None)),
    (slice(3, 29), slice(11, 12)),
    (slice(9, 20), slice(10, 33)),
    (slice(0, 200), slice(30, 400)),
    (slice(5, 5), slice(0, 9)),
    slice(7, 19),
)


def opened(path: Path, **options: object) -> astrofits.HDUList:
    return astrofits.open(path, disable_image_compression=True, **options)


@pytest.mark.parametrize("compression", ["GZIP_1", "GZIP_2", "RICE_1"])
@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f4", "f8"])
def test_sections_are_astropys(tmp_path: Path, compression: str, kind: str) -> None:
    if kind[0] == "f" and compression == "RICE_1":
        compression = "HCOMPRESS_1"  # a float needs scales, which astropy takes care of
    pixels = (100 * np.random.default_rng(1).random((34, 47))).astype(kind)
    if kind[0] == "f" and compression.startswith("GZIP"):
        pixels[3, 4], pixels[5, 6] = np.nan, np.inf
    level = 0 if compression.startswith("GZIP") else 16
    hdus = astrofits.HDUList([astrofits.PrimaryHDU()])
    for name in "XY":
        hdus.append(
            astrofits.CompImageHDU(
                pixels, name=name, compression_type=compression, tile_shape=(10, 10),
                quantize_level=level,
            )
        )  # fmt: skip
        hdus[-1].header["BUNIT"] = "nJy"
    hdus.writeto(tmp_path / "a.fits")
    with astrofits.open(tmp_path / "a.fits") as expected, opened(tmp_path / "a.fits") as hdus:
        for n in (1, 2):
            image = as_image(hdus[n])
            assert isinstance(image, GzippedImage) == compression.startswith("GZIP")
            assert image_shape(hdus[n]) == image.shape == (34, 47)
            assert bits_of_pixel(image) == expected[n].header["BITPIX"]
            assert image_header(image)["BUNIT"] == image.header["BUNIT"] == "nJy"
            for part in SLICES:
                np.testing.assert_array_equal(image.section[part], expected[n].section[part])
            np.testing.assert_array_equal(image.data, expected[n].data)


def test_four_axes_in_rows_as_astropy_compresses_by_default(tmp_path: Path) -> None:
    cells = np.random.default_rng(2).normal(size=(4, 5, 7, 9))
    hdu = astrofits.CompImageHDU(cells, compression_type="GZIP_2", quantize_level=0)
    hdu.writeto(tmp_path / "a.fits")
    with opened(tmp_path / "a.fits") as hdus:
        image = as_image(hdus[1])
        np.testing.assert_array_equal(image.section[1:3, 2:5], cells[1:3, 2:5])


def test_scaled_and_unsigned_images_are_left_to_astropy(tmp_path: Path) -> None:
    pixels = np.arange(60000, 60600, dtype=np.uint16).reshape(20, 30)
    astrofits.CompImageHDU(pixels, compression_type="GZIP_1").writeto(tmp_path / "a.fits")
    with opened(tmp_path / "a.fits") as hdus:
        image = as_image(hdus[1])
        assert not isinstance(image, GzippedImage)
        np.testing.assert_array_equal(image.section[:], pixels)
