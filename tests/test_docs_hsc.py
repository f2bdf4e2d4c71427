"""The commands of the page on the real HSC field, run on the middle of that field."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from test_docs import ROOT, in_process, run_page  # noqa: F401

HSC = ROOT.parent / "shared" / "data" / "hsc" / "calexp_fields"
SIDE = 100
"""Pixels of the middle of the field: all of it takes minutes."""

pytestmark = pytest.mark.skipif(not HSC.is_dir(), reason="needs ../shared/data/hsc")


def write_field(folder: Path) -> None:
    """Write the middle of the real field under the names that the page gives its files."""
    folder.mkdir()
    for path in HSC.iterdir():
        if path.stem.endswith("_psf"):
            shutil.copy(path, folder)
            continue
        with fits.open(path) as hdus:
            for hdu in hdus[1:4]:
                y0, x0 = ((side - SIDE) // 2 for side in hdu.data.shape)
                hdu.data = hdu.data[y0 : y0 + SIDE, x0 : x0 + SIDE]
                hdu.header["CRPIX1"] -= x0
                hdu.header["CRPIX2"] -= y0
            fits.HDUList(hdus[:4]).writeto(folder / path.name)


def test_the_commands_of_the_real_field_work(
    in_process: dict[str, str],  # noqa: F811
    tmp_path: Path,
) -> None:
    write_field(tmp_path / "field")
    run_page("tutorial_hsc.md", tmp_path, in_process)
    sources = Table.read(tmp_path / "hsc.fits", hdu=1)
    assert np.isfinite(sources["flux_i"]).sum() > 10
    for made in ("blend.pdf", "colors.png"):
        assert (tmp_path / made).stat().st_size > 5_000
