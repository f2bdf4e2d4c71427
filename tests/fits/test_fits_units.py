"""Units of pixels: flux densities, counts, and what is neither."""

from pathlib import Path

import pytest
from tile_files import complete, wcs_header, write

from raydeblend import fits
from raydeblend.fits.units import is_count, njy_of_unit


@pytest.mark.parametrize(
    ("unit", "njy"),
    [
        ("nJy", 1.0),
        ("uJy", 1e3),
        ("Jy", 1e9),
        ("W/m2/Hz", 1e35),
        ("erg/s/cm2/Hz", 1e32),
        # AB magnitude 22.5 is 3.631 µJy.
        ("nanomaggy", 3631.0),
        ("nanomaggies", 3631.0),
        ("nmgy", 3631.0),
        ("maggy", 3.631e12),
    ],
)
def test_flux_densities(tmp_path: Path, unit: str, njy: float) -> None:
    assert njy_of_unit(unit) == pytest.approx(njy, rel=1e-6)
    assert not is_count(unit)
    write(tmp_path, "a_g.fits", complete(zero={}, wcs=wcs_header(BUNIT=unit)))
    (header,), failures = fits.find_tiles(str(tmp_path), ("g",))
    assert not failures
    assert header.files[0].njy_per_count == pytest.approx(njy, rel=1e-6)


@pytest.mark.parametrize(
    "unit", ["", "adu", "ADU/s", "DN", "counts", "ct", "electron", "e-/s", "ELECTRONS/S", "DN/sec"]
)
def test_counts_need_a_zero_point(tmp_path: Path, unit: str) -> None:
    assert njy_of_unit(unit) is None
    write(tmp_path / "with", "a_g.fits", complete(wcs=wcs_header(BUNIT=unit)))
    (header,), _ = fits.find_tiles(str(tmp_path / "with"), ("g",))
    assert header.files[0].njy_per_count == pytest.approx(57.544, rel=1e-4)
    write(tmp_path / "without", "a_g.fits", complete(zero={}, wcs=wcs_header(BUNIT=unit)))
    _, (failure,) = fits.find_tiles(str(tmp_path / "without"), ("g",))
    assert failure.reason.endswith("has no zero point (FLUXMAG0 or MAGZERO)")


@pytest.mark.parametrize("unit", ["MJy/sr", "nJy/arcsec2", "K", "percent", "furlong", "mJy/beam"])
def test_other_units_are_refused_by_name(tmp_path: Path, unit: str) -> None:
    write(tmp_path, "a_g.fits", complete(wcs=wcs_header(BUNIT=unit)))
    _, (failure,) = fits.find_tiles(str(tmp_path), ("g",), zeropoint=27.0)
    assert f"is in {unit}, which is no flux of a pixel; valid: nJy, " in failure.reason
