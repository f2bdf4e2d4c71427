"""The commands of the pages on real images: the middle of the HSC field, and HSC beside HST."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from test_docs import ROOT, run_page

from raydeblend.catalog import read_catalog

HSC = ROOT.parent / "shared" / "data" / "hsc" / "calexp_fields"
PAIR = HSC.parent / "hst_pairs"
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


def test_the_commands_of_the_real_field_work(in_process: dict[str, str], tmp_path: Path) -> None:
    write_field(tmp_path / "field")
    run_page("tutorial_hsc.md", tmp_path, in_process)
    sources = Table.read(tmp_path / "hsc.fits", hdu=1)
    assert np.isfinite(sources["flux_i"]).sum() > 10
    for made in ("blend.pdf", "colors.png"):
        assert (tmp_path / made).stat().st_size > 5_000


def test_the_commands_of_the_hst_pair_work(in_process: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pair").symlink_to(PAIR)
    run_page("howto/hst.md", tmp_path, in_process)
    outs = ("hsc", "placed", "shaped")
    alone, placed, shaped = (np.sort(read_catalog(str(tmp_path / out))["flux_i"]) for out in outs)
    assert len(placed) == len(shaped) > 0
    # What HSC sees as one galaxy is most of the light at HST's places too.
    assert placed[-1] == pytest.approx(alone[-1], rel=0.25)
