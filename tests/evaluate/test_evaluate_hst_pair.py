"""The HSC and HST pair: a simulated one with known places and shift, and the real one."""

from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from raydeblend.deblend.srgan.deblender import SrganDeblender
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.request import Request
from raydeblend.evaluate.hst_pair import (
    FILES,
    HSC,
    HST,
    NETWORK,
    find_all,
    pair_table,
    read_pair,
    run,
    score_pair,
)

REAL = Path(__file__).parents[3] / "shared/data/hsc/hst_pairs"
# Arcsec from the center, flux; the last two are a blend in HSC's seeing.
SOURCES = ((-1.6, -1.5, 300.0), (1.8, 1.2, 220.0), (-0.9, 1.3, 260.0), (-0.45, 1.3, 200.0))
OFFSET = (0.21, -0.13)


def wcs(scale, size):
    header = WCS(naxis=2)
    header.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    header.wcs.crval = [150.0, 2.0]
    header.wcs.crpix = [(size + 1) / 2, (size + 1) / 2]
    header.wcs.cdelt = [-scale / 3600, scale / 3600]
    return header.to_header()


def draw(size, scale, fwhm, noise, shift, seed):
    psf = galsim.Gaussian(fwhm=fwhm)
    galaxies = [
        galsim.Gaussian(half_light_radius=0.08, flux=flux).shift(x + shift[0], y + shift[1])
        for x, y, flux in SOURCES
    ]
    image = galsim.Convolve(galsim.Sum(galaxies), psf).drawImage(nx=size, ny=size, scale=scale)
    pixels = image.array + np.random.default_rng(seed).normal(0, noise, (size, size))
    stamp = psf.drawImage(nx=31, ny=31, scale=scale).array
    return pixels.astype(np.float32), stamp.astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    hsc, hsc_psf = draw(50, 0.168, 0.65, 0.3, (0, 0), 1)
    hst, hst_psf = draw(200, 0.03, 0.1, 0.02, OFFSET, 2)
    for name, image, scale in (("hsc", hsc, 0.168), ("hst", hst, 0.03)):
        fits.writeto(tmp_path / FILES[name], image, wcs(scale, len(image)))
    fits.writeto(tmp_path / FILES["hsc_psf"], hsc_psf)
    fits.writeto(tmp_path / FILES["hst_psf"], hst_psf)
    return tmp_path


def test_a_wrong_wcs_is_mended_and_the_peaks_are_those_drawn(folder):
    pair = read_pair(str(folder))
    # East is left: both images are drawn in pixels, so that x of the shift is that of pixels.
    np.testing.assert_allclose(pair.shift * 0.168, -np.array(OFFSET), atol=0.02)
    scores = find_all(pair, SrganDeblender.load("cpu"))
    drawn = np.array([source[:2] for source in SOURCES]) / 0.168 + 24.5
    found = scores.xy[HST]
    distance = np.linalg.norm(drawn[:, None] - found[None], axis=2)
    assert len(found) == len(drawn)
    assert (distance.min(axis=1) * 0.168).max() < 0.04
    rows = {row["image"]: row for row in score_pair(scores)}
    assert rows[HST]["found"] == 4
    assert rows[HSC]["found"] < 4
    assert rows[NETWORK]["found"] >= rows[HSC]["found"]
    assert "from its WCS" in pair_table(list(rows.values()), pair).after[0]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="Cut_HSC"):
        read_pair(str(tmp_path))


@pytest.mark.skipif(not REAL.exists(), reason="the real pair is in ../shared/data")
def test_the_real_pair(tmp_path):
    report = run(Request("hst-pair", None, str(REAL), None, str(tmp_path)))
    rows, (table,) = report.rows, report.tables
    assert {row["image"] for row in rows} == {HSC, NETWORK, HST}
    by_name = {row["image"]: row for row in rows}
    assert by_name[HST]["peaks"] >= by_name[HSC]["peaks"] >= 1
    assert by_name[HSC]["found"] >= 1
    assert report.files["hst_pair.png"][:4] == b"\x89PNG"
    assert "HST" in [row[0] for row in table.rows]
