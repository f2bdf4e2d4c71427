"""WCS and zero points that a header does not say, or that nothing has."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as astrofits
from astropy.wcs import WCS
from tile_files import complete, wcs_header, write

from raydeblend import fits

GALACTIC = {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}


def reason(folder: Path, content: astrofits.HDUList) -> str:
    """Why the bad tile fails; the good one beside it is planned."""
    write(folder, "bad_g.fits", content)
    write(folder, "good_g.fits", complete())
    headers, (bad,) = fits.find_tiles(str(folder), ("g",))
    assert [header.name for header in headers] == ["good"]
    return bad.reason


def without(*cards: str, **changed: object) -> astrofits.Header:
    header = wcs_header(**changed)
    for card in cards:
        del header[card]
    return header


@pytest.mark.parametrize(
    ("wcs", "sentence"),
    [
        *(
            (without(card), f"no celestial WCS: the card {card} is missing")
            for card in ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")
        ),
        (without("CD1_1", "CD2_2"), "no celestial WCS: there is no pixel scale (CD, PC or CDELT"),
        (without("CD1_1", "CD2_2", CDELT1=5e-5), "no celestial WCS: the card CDELT2 is missing"),
        (wcs_header(CRVAL1="150.0"), "bad WCS: CRVAL1 = '150.0' is no number"),
        (wcs_header(CRPIX2="1"), "bad WCS: CRPIX2 = '1' is no number"),
        (wcs_header(CD1_1="-5E-5"), "bad WCS: CD1_1 = '-5E-5' is no number"),
        (wcs_header(CRVAL2=True), "bad WCS: CRVAL2 = True is no number"),
        (wcs_header(CRVAL2=95.0), "bad WCS: CRVAL2 = 95.0 is not a position on the sky"),
        (wcs_header(CRVAL1=1e20), "bad WCS: CRVAL1 = 1e+20 is not a position on the sky"),
        (wcs_header(CRVAL2=-95.0, **GALACTIC), "CRVAL2 = -95.0 is not a position on the sky"),
        (wcs_header(CD1_1=0.0, CD2_2=0.0), "has a bad WCS"),
        (wcs_header(CD1_1=-1.0, CD2_2=1.0), "has a bad WCS: a pixel of 3600 by 3600 arcsec"),
        (wcs_header(CD2_2=1e-12), "has a bad WCS: a pixel of 0.2 by 3.6e-09 arcsec"),
        (without("CD1_1", "CD2_2", PC1_1=1.0), "has a bad WCS: a pixel of 3600 by 3600 arcsec"),
        (wcs_header(A_ORDER=2, B_ORDER=2, A_2_0=1e-5), "SIP coefficients (A_ORDER), but CTYPE1"),
    ],
)
def test_a_wcs_that_astropy_would_make_up_is_refused(tmp_path: Path, wcs, sentence: str) -> None:
    said = reason(tmp_path, complete(wcs=wcs))
    assert sentence in said
    assert "bad_g.fits" in said


SIP = {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5, "B_0_2": 1e-5}
TPV = {f"PV{axis}_{i}": float(i == 1) for axis in (1, 2) for i in range(5)} | {"PV1_4": 1e-3}


@pytest.mark.parametrize(
    "wcs",
    [
        wcs_header(),
        wcs_header(CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP", **SIP),
        wcs_header(CTYPE1="RA---TPV", CTYPE2="DEC--TPV", **TPV),
        wcs_header(CRVAL2=30.0, **GALACTIC),
        wcs_header(CRVAL1=-10.0),
        without("CD1_1", "CD2_2", CDELT1=-5e-5, CDELT2=5e-5, CROTA2=30.0),
        without("CD1_1", "CD2_2", PC1_1=-5e-5, PC2_2=5e-5),
        without("CD1_1", "CD2_2", CDELT1=-0.2, CDELT2=0.2, CUNIT1="arcsec", CUNIT2="arcsec",
                CRVAL1=150 * 3600.0, CRVAL2=2 * 3600.0),
    ],
)  # fmt: skip
def test_a_whole_wcs_gives_the_places_that_astropy_gives(tmp_path: Path, wcs) -> None:
    write(tmp_path, "a_g.fits", complete(wcs=wcs))
    (header,), failures = fits.find_tiles(str(tmp_path), ("g",))
    assert not failures
    here = WCS(astrofits.Header.fromstring(header.wcs)).pixel_to_world(30, 20)
    assert here.separation(WCS(wcs).pixel_to_world(30, 20)).arcsec < 1e-6


@pytest.mark.parametrize(
    "cards",
    [
        {card: value}
        for card, values in {
            "FLUXMAG0": (0.0, -1.0, 1e300, 1e-300, "nan", "63095734448", True),
            "MAGZERO": (-9999.0, -99.0, 99.0, 9999.0, 1e300, "27.0", True),
        }.items()
        for value in values
    ],
)
def test_a_zero_point_that_no_detector_has_fails_the_tile(tmp_path: Path, cards) -> None:
    ((card, value),) = cards.items()
    assert f"unusable zero point: {card} = {value!r}" in reason(tmp_path, complete(zero=cards))


@pytest.mark.parametrize("zero", [-56.1, -48.6, 0.0, 8.9, 22.5, 31.4, 43.0])
def test_zero_points_of_real_units(tmp_path: Path, zero: float) -> None:
    write(tmp_path, "a_g.fits", complete(zero={"MAGZERO": zero}))
    ((header,), _) = fits.find_tiles(str(tmp_path), ("g",))
    assert header.files[0].njy_per_count == pytest.approx(10 ** ((31.4 - zero) / 2.5))


@pytest.mark.parametrize(
    ("unit", "zero", "sentence"),
    [
        ("nJy", 27.0, "is in nJy, but its zero point makes one count 57.544 nJy"),
        ("uJy", 31.4, "is in uJy, but its zero point"),
        ("mag / arcsec2", 27.0, "is in mag / arcsec2; an image must be linear"),
        ("nJy", 31.4, None),
        ("Jy", 8.9, None),
        ("nmgy", 22.5, None),
        ("adu", 27.0, None),
        ("electron/s", 27.0, None),
    ],
)
def test_the_unit_of_the_image(tmp_path: Path, unit: str, zero: float, sentence) -> None:
    content = complete(zero={"MAGZERO": zero}, wcs=wcs_header(BUNIT=unit))
    if sentence:
        assert sentence in reason(tmp_path, content)
    else:
        write(tmp_path, "a_g.fits", content)
        assert not fits.find_tiles(str(tmp_path), ("g",))[1]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"njy_per_count": -1.0}, "njy_per_count = -1.0"),
        ({"njy_per_count": np.inf}, "njy_per_count = inf"),
        ({"njy_per_count": 1e300}, "njy_per_count = 1e+300"),
        ({"rows": -40}, "unusable shape"),
        ({"wcs": "CRVAL1"}, "no celestial WCS: the card CRVAL1 is missing"),
        ({"wcs": "150.0", "text": True}, "CRVAL1 = \"'150.0'\" is no number"),
    ],
)
def test_a_manifest_is_checked_as_headers_are(tmp_path: Path, change, sentence: str) -> None:
    write(tmp_path, "bad_g.fits", complete())
    cards = str(WCS(wcs_header()).to_header().tostring(endcard=False, padding=False))
    lines = [cards[start : start + 80] for start in range(0, len(cards), 80)]
    if change.pop("text", False):
        lines = ["CRVAL1  = '150.0'".ljust(80) if "CRVAL1" in line else line for line in lines]
        change = {}
    elif "wcs" in change:
        lines = [line for line in lines if change["wcs"] not in line]
        change = {}
    row = {"rows": 40, "columns": 50, "njy_per_count": 57.5, **change, "wcs": "".join(lines)}
    (tmp_path / "m.csv").write_text(
        "tile,band,image," + ",".join(row) + "\nbad,g,bad_g.fits,"
        + ",".join(f'"{value}"' for value in row.values()) + "\n"
    )  # fmt: skip
    headers, (bad,) = fits.find_tiles(str(tmp_path), ("g",), manifest=str(tmp_path / "m.csv"))
    assert not headers
    assert sentence in bad.reason
