"""Names of HSC's and LSST's archives, and a catalog of two overlapping patches in each."""

from pathlib import Path

import numpy as np
import pytest
from coadds import BANDS, SKY, galaxies, sky_wcs, write_coadd, write_psf
from dp2_files import Patch, noise
from in_process import catalogs_in_process

from raydeblend import fits, storage
from raydeblend.catalog import read_catalog
from raydeblend.config import IMAGE_PATTERN, CatalogConfig
from raydeblend.errors import ConfigError
from raydeblend.fits.layouts import find_layout
from raydeblend.fits.layouts.match import match_layout, position
from raydeblend.fits.layouts.recognize import recognize
from raydeblend.flags import Flag
from raydeblend.pipeline.survey import run_catalog
from raydeblend.pipeline.verify import verify_catalog
from raydeblend.survey import get_survey
from raydeblend.tile import Box

PATCHES = {"4,4": 0, "4,5": 110}
"""Where each of two patches 190 pixels wide begins: 80 pixels belong to both."""
WIDTH = 190


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def match(root: Path, bands: tuple[str, ...], layout: str) -> dict:
    return match_layout(str(root), bands, find_layout(layout), storage.list_stamps(str(root)))


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
    assert short(match(tmp_path, ("g", "i"), "hsc"), tmp_path) == {
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
    assert short(match(tmp_path, ("i",), "hsc"), tmp_path) == {
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
    assert short(match(tmp_path, ("r", "i"), "lsst"), tmp_path) == {
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
        match(tmp_path, ("g",), "hsc")
    with pytest.raises(ConfigError, match=r"none of the 3 files .*deepCoadd_calexp_9813_42_i"):
        match(tmp_path, ("g",), "lsst")
    with pytest.raises(ConfigError, match=r"in the bands y, .*; there are images in g$"):
        match(tmp_path / "x", ("y",), "hsc")
    with pytest.raises(
        ConfigError, match=r"valid: auto, euclid-mer, hsc, .*, or a file as FILE.yaml"
    ):
        CatalogConfig(bands=("g",), layout="des")


def test_psfs_of_several_places_of_a_patch(tmp_path: Path) -> None:
    """Each position of the picker's list has the nearest stamp."""
    write_coadd(tmp_path / "calexp-HSC-I-9813-4,4.fits", "i", 0, 0, WIDTH, SKY[1])
    places = {1.2: (20, 30), 1.8: (150, 30), 2.4: (90, 160)}
    for line, (sigma, xy) in enumerate(places.items(), 2):
        ra, dec = sky_wcs().all_pix2world(*xy, 0)
        name = f"{line}-psf-calexp-pdr3_wide-HSC-I-9813-4,4-{ra:.6f}-{dec:.6f}.fits"
        write_psf(tmp_path / name, sigma=sigma)
    (header,), failures = fits.find_tiles(str(tmp_path), ("i",))
    assert not failures
    assert header.files[0].layout == "hsc"
    assert len(header.files[0].psf.split("\n")) == 3
    tile = fits.read_tile(header, header.box, get_survey("HSC"))
    corner = fits.read_tile(header, Box(0, 0, 40, 40), get_survey("HSC"))
    assert len(corner.psf.bands[0].stamps) == 1
    for sigma, (x, y) in {**places, 1.2: (70, 35), 1.8: (100, 35)}.items():
        assert width(tile.psf.at(x, y)[0]) == pytest.approx(sigma, rel=0.01)
    assert width(corner.psf.at(39, 39)[0]) == pytest.approx(1.2, rel=0.01)
    assert corner.psf.bands[0].height == tile.psf.bands[0].height
    assert not tile.psf.missing([[5, 5]]).any()


def width(stamp: np.ndarray) -> float:
    """The sigma of a Gaussian from its second moments."""
    y, x = np.indices(stamp.shape) - (np.array(stamp.shape) // 2)[:, None, None]
    return float(np.sqrt((stamp * (x**2 + y**2)).sum() / 2))


def test_psfs_of_unknown_places_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "calexp-HSC-I-9813-4,4.fits", "psf-calexp-HSC-I-9813-4,4.fits")
    touch(tmp_path, "2-psf-calexp-HSC-I-9813-4,4-150.1-2.2.fits")
    with pytest.raises(ConfigError, match=r"are of one tile and band \(9813-4,4 i\); leave one"):
        match(tmp_path, ("i",), "hsc")
    (tmp_path / "psf-calexp-HSC-I-9813-4,4.fits").unlink()
    touch(tmp_path, "3-psf-calexp-pdr3_wide-HSC-I-9813-4,4-150.1-2.2.fits")
    with pytest.raises(ConfigError, match="are of one tile and band"):
        match(tmp_path, ("i",), "hsc")


def test_a_position_in_a_name(tmp_path: Path) -> None:
    hsc = find_layout("hsc")
    name = "2-psf-calexp-pdr3_wide-HSC-I-9813-4,4-{}.fits"
    assert position(hsc, name.format("150.17282-2.60907")) == (150.17282, 2.60907)
    assert position(hsc, name.format("350.1--1.25")) == (350.1, -1.25)
    assert position(hsc, "psf-calexp-HSC-I-9813-4,4.fits") is None


def recognized(root: Path, bands: tuple[str, ...] = ("i",)) -> str:
    return recognize(str(root), bands, IMAGE_PATTERN, storage.list_stamps(str(root))).name


def test_layouts_are_recognized(tmp_path: Path) -> None:
    dp2 = "deep_coadd_77_5_i_lsst_cells_v2_LSSTCam_runs_DRP_DP2.fits"
    for name, layout in (
        ("a_i.fits", "native"),
        ("calexp-HSC-I-9813-4,4.fits", "hsc"),
        ("4-cutout-HSC-I2-9813-pdr3_dud.fits", "hsc"),
        ("deepCoadd_calexp_4849_31_i_DC2.fits", "lsst"),
        (dp2, "lsst"),
    ):
        touch(tmp_path / layout, name)
        assert recognized(tmp_path / layout) == layout, name
    Patch().write(tmp_path / "dp2", "i", noise(Patch().shape))
    assert recognized(tmp_path / "dp2", ("g",)) == "lsst-dp2"  # for a refusal that names the bands
    touch(tmp_path / "dp2", "psf_x.fits", "notes.txt", dp2.replace("_i_", "_r_"))
    assert recognized(tmp_path / "dp2") == "lsst-dp2"


def test_what_is_not_verified_is_not_recognized(tmp_path: Path) -> None:
    touch(tmp_path, "legacysurvey-1501p022-image-r.fits.fz")
    touch(tmp_path, "EUC_MER_BGSUB-MOSAIC-VIS_TILE102018211-ACBD03_2024_00.00.fits")
    with pytest.raises(ConfigError, match=r"none of the 2 files .* bands r; nor is one named as"):
        recognized(tmp_path, ("r",))
    assert set(match(tmp_path, ("r",), "legacy")) == {"1501p022"}
    assert set(match(tmp_path, ("IE",), "euclid-mer")) == {"102018211"}


def test_several_layouts_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "calexp-HSC-I-9813-4,4.fits", "deepCoadd_calexp_4849_31_i_DC2.fits")
    with pytest.raises(ConfigError, match=r"\(hsc\), .* \(lsst\); choose one with --layout"):
        recognized(tmp_path)
    (tmp_path / "deepCoadd_calexp_4849_31_i_DC2.fits").unlink()
    touch(tmp_path, "a_i.fits")
    with pytest.raises(ConfigError, match=r"several layouts .* \(hsc\), .*a_i.fits \(native\)"):
        recognized(tmp_path)
    assert recognized(tmp_path, ("g",)) == "hsc"


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
