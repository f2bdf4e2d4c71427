"""Names of HSC's and LSST's archives, and a catalog of two overlapping patches in each."""

from pathlib import Path

import numpy as np
import pytest
from coadds import BANDS, SKY, galaxies, sky_wcs, write_coadd, write_psf
from in_process import catalogs_in_process

from raydeblend.catalog import read_catalog
from raydeblend.config import CatalogConfig
from raydeblend.errors import ConfigError
from raydeblend.fits.layouts import match_layout
from raydeblend.flags import Flag
from raydeblend.pipeline.survey import run_catalog
from raydeblend.pipeline.verify import verify_catalog

PATCHES = {"4,4": 0, "4,5": 110}
"""Where each of two patches 190 pixels wide begins: 80 pixels belong to both."""
WIDTH = 190


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def short(found: dict, root: Path) -> dict[str, dict[str, tuple[str, str | None]]]:
    """Tile to band to names of image and PSF, folders left out."""
    return {
        tile: {
            band: (Path(source.image).name, source.psf and Path(source.psf).name)
            for band, source in bands.items()
        }
        for tile, bands in found.items()
    }


def test_hsc_patches_wherever_they_lie(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "deepCoadd-results/HSC-G/9813/4,4/calexp-HSC-G-9813-4,4.fits",
        "deepCoadd-results/HSC-I2/9813/4,4/calexp-HSC-I2-9813-4,4.fits.gz",
        "deepCoadd-results/HSC-I2/9813/4,4/det-HSC-I2-9813-4,4.fits",
        "elsewhere/calexp-HSC-G-9813-5,4.fits",
        "elsewhere/calexp-HSC-Z-9813-5,4.fits",
        "psfs/2-psf-calexp-pdr3_wide-HSC-G-9813-4,4-150.17282--2.60907.fits",
        "psfs/psf-calexp-HSC-G-9813-5,4.fits",
    )
    assert short(match_layout(str(tmp_path), ("g", "i"), "hsc"), tmp_path) == {
        "9813-4,4": {
            "g": (
                "calexp-HSC-G-9813-4,4.fits",
                "2-psf-calexp-pdr3_wide-HSC-G-9813-4,4-150.17282--2.60907.fits",
            ),
            "i": ("calexp-HSC-I2-9813-4,4.fits.gz", None),
        },
        "9813-5,4": {"g": ("calexp-HSC-G-9813-5,4.fits", "psf-calexp-HSC-G-9813-5,4.fits")},
    }


def test_hsc_cutouts_go_with_the_stamps_of_their_line(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "2-cutout-HSC-I-9813-pdr3_wide.fits",
        "3-cutout-HSC-I-9813-pdr3_wide.fits",
        "2-psf-calexp-pdr3_wide-HSC-I-9813-4,6-150.17282-2.60907.fits",
        "3-psf-calexp-pdr3_wide-HSC-I-9813-4,6-150.18282-2.61907.fits",
    )
    assert short(match_layout(str(tmp_path), ("i",), "hsc"), tmp_path) == {
        f"9813-line{line}": {
            "i": (
                f"{line}-cutout-HSC-I-9813-pdr3_wide.fits",
                f"{line}-psf-calexp-pdr3_wide-HSC-I-9813-4,6-150.1{n}282-2.6{m}907.fits",
            )
        }
        for line, n, m in ((2, 7, 0), (3, 8, 1))
    }


def test_lsst_coadds_of_the_butler(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "deepCoadd_calexp/4849/31/i/deepCoadd_calexp_4849_31_i_DC2_u_runs_DP0_2_v23-905.fits",
        "deepCoadd_calexp_4849_31_r.fits",
        "deepCoadd_calexp_4849_31_r_psf.fits",
        "deep_coadd_5063_14_i_lsst_cells_v1_LSSTComCam_runs_DRP_DP1.fits",
        "psf_deep_coadd_5063_14_i.fits",
        "deepCoadd_meas_4849_31_i.fits",
    )
    assert short(match_layout(str(tmp_path), ("r", "i"), "lsst"), tmp_path) == {
        "4849-31": {
            "i": ("deepCoadd_calexp_4849_31_i_DC2_u_runs_DP0_2_v23-905.fits", None),
            "r": ("deepCoadd_calexp_4849_31_r.fits", "deepCoadd_calexp_4849_31_r_psf.fits"),
        },
        "5063-14": {
            "i": (
                "deep_coadd_5063_14_i_lsst_cells_v1_LSSTComCam_runs_DRP_DP1.fits",
                "psf_deep_coadd_5063_14_i.fits",
            )
        },
    }


def test_what_a_layout_cannot_sort_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a_g.fits", "x/calexp-HSC-G-9813-4,4.fits", "y/calexp-HSC-G-9813-4,4.fits")
    with pytest.raises(ConfigError, match=r"x/calexp.* and .*y/calexp.* are of one tile and band"):
        match_layout(str(tmp_path), ("g",), "hsc")
    with pytest.raises(ConfigError, match=r"none of the 3 files .*deepCoadd_calexp_9813_42_i"):
        match_layout(str(tmp_path), ("g",), "lsst")
    with pytest.raises(ConfigError, match="valid are native, hsc, lsst"):
        CatalogConfig(bands=("g",), layout="des")


def write_hsc(root: Path) -> None:
    for patch, x0 in PATCHES.items():
        for band in BANDS:
            name = f"HSC-{band.upper()}"
            folder = root / "deepCoadd-results" / name / "9813" / patch
            coadd = folder / f"calexp-{name}-9813-{patch}.fits"
            write_coadd(coadd, band, x0, 0, WIDTH, SKY[1])
            write_psf(root / "psf" / f"1-psf-calexp-pdr3_wide-{name}-9813-{patch}-150.0-2.0.fits")


def write_lsst(root: Path) -> None:
    for patch, x0 in PATCHES.items():
        for band in BANDS:
            name = f"deepCoadd_calexp_9813_{patch}_{band}_skymap_v1"
            write_coadd(root / f"{name}.fits", band, x0, 0, WIDTH, SKY[1])
            write_psf(root / f"{name}_psf.fits")


@pytest.mark.parametrize(("layout", "write"), [("hsc", write_hsc), ("lsst", write_lsst)])
def test_overlapping_patches_own_each_galaxy_once(layout: str, write, tmp_path: Path) -> None:
    tiles, out = tmp_path / "tiles", str(tmp_path / "out")
    write(tiles)
    config = CatalogConfig(bands=BANDS, layout=layout, deblender="sep", photometry="mixture")
    with catalogs_in_process():
        summary = run_catalog(str(tiles), out, config, progress=False)
    assert (summary.n_cells, summary.n_failed) == (2, 0)
    assert verify_catalog(out) == []
    table = read_catalog(out).to_pandas()
    assert set(table["tile"]) == {"9813-4,4", "9813-4,5"}
    assert not (table["flags"] & int(Flag.PSF_NOMINAL | Flag.BAND_MISSING)).any()

    primary = table[table["is_primary"]]
    # In pixels of the whole sky, by the WCS alone.
    x, y = sky_wcs().all_world2pix(primary["ra"], primary["dec"], 0)
    apart = np.hypot(*(galaxies()[:, None, :2] - np.column_stack([x, y])[None]).transpose(2, 0, 1))
    found = (apart < 2).sum(axis=1)
    assert found.max() == 1
    assert found.mean() > 0.85
    # Of pairs the fainter is not always seen; a galaxy alone is.
    alone = np.arange(1, len(galaxies()) * 2 // 3, 2)
    assert (found[alone] == 1).all()
    assert len(primary) < len(table)
    # The copies are those of the overlap, and each side owns its half of it.
    copy = sky_wcs().all_world2pix(table["ra"], table["dec"], 0)[0][~table["is_primary"]]
    assert ((copy > PATCHES["4,5"] - 1) & (copy < WIDTH)).all()
    middle = (PATCHES["4,5"] + WIDTH) / 2
    assert (x[primary["tile"] == "9813-4,4"] < middle + 1).all()
    assert (x[primary["tile"] == "9813-4,5"] > middle - 2).all()
