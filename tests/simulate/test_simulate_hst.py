"""HST stamps: against galaxies drawn by GalSim, the COSMOS catalog's magnitudes, bad files."""

from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from raydeblend.errors import ConfigError
from raydeblend.simulate.cutouts import rebin
from raydeblend.simulate.hst import load_hst

HST = Path(__file__).parents[3] / "shared" / "data" / "hst"
needs_hst = pytest.mark.skipif(not HST.is_dir(), reason="needs ../shared/data/hst")
SIZE, SCALE, SIGMA, SKY = 121, 0.03, 0.01, 0.3


def draw(flux: float, radius: float, offset: tuple[float, float]) -> np.ndarray:
    galaxy = galsim.Convolve(
        galsim.Exponential(half_light_radius=radius, flux=flux), galsim.Gaussian(fwhm=0.1)
    )
    return galaxy.drawImage(nx=SIZE, ny=SIZE, scale=SCALE, offset=offset).array


def write_folder(folder: Path, neighbor: float = 0.0) -> None:
    """Galaxies 1 (of two bands), 2 (one band) and 8; zero point 26 for the first only."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    rows = []
    for name, band, flux in ((1, "F775W", 50.0), (1, "F125W", 90.0), (2, "F775W", 20.0),
                             (8, "F775W", 30.0)):  # fmt: skip
        image = draw(flux, 0.15, (3.3, -2.2)) + draw(neighbor + 1e-9, 0.1, (-40, 35))
        image += SKY + SIGMA * rng.standard_normal(image.shape)
        path = f"{name}_{band}.fits"
        fits.writeto(folder / path, image.astype(np.float32))
        rows.append((str(name), band, path, SCALE, 26.0 if name == 1 else np.nan))
    table = Table(rows=rows, names=("galaxy", "band", "image", "pixel_scale", "zeropoint"))
    table["zeropoint"] = np.ma.masked_invalid(table["zeropoint"])
    table.write(folder / "catalog.ecsv")


def test_flux_sky_and_center_of_a_users_cutouts(tmp_path: Path) -> None:
    write_folder(tmp_path / "candels")
    stamps = load_hst(str(tmp_path), ("F775W",), size=64, pixel_scale=0.06)
    assert list(stamps.galaxy) == [1, 2, 8]
    assert list(load_hst(str(tmp_path), ("F775W",), limit=2).galaxy) == [1, 2]
    assert list(stamps.calibrated) == [True, False, False]
    assert list(stamps.is_validation) == [False, False, True]
    # 50 counts at zero point 26; the noise of the sum over 64x64 pixels of 2 sigma each.
    unit = 10 ** (0.4 * (31.4 - 26))
    assert stamps.images[0].sum() == pytest.approx(50 * unit, abs=4 * 64 * 2 * SIGMA * unit)
    assert stamps.images[1:].sum(axis=(2, 3)) == pytest.approx(np.ones((2, 1)))
    image = np.clip(stamps.images[0, 0], 0, None) ** 2
    y, x = np.indices(image.shape)
    # Centered to half an old pixel.
    assert (image * x).sum() / image.sum() == pytest.approx(31.5, abs=0.35)
    assert (image * y).sum() / image.sum() == pytest.approx(31.5, abs=0.35)


def test_the_sky_is_subtracted_and_its_noise_continued(tmp_path: Path) -> None:
    write_folder(tmp_path / "candels")
    corner = load_hst(str(tmp_path), ("F775W",), size=64).images[0, 0, :8, :8]
    unit = 10 ** (0.4 * (31.4 - 26))
    # 60 pixels of 0.06" are covered; noise of four old pixels in each, and white beyond.
    assert corner.std() == pytest.approx(2 * SIGMA * unit, rel=0.25)
    assert abs(corner.mean()) < 4 * 2 * SIGMA * unit / 8


def test_neighbors_are_replaced_by_noise(tmp_path: Path) -> None:
    write_folder(tmp_path / "alone")
    write_folder(tmp_path / "crowded", neighbor=40.0)
    alone = load_hst(str(tmp_path / "alone"), ("F775W",)).images[0, 0]
    crowded = load_hst(str(tmp_path / "crowded"), ("F775W",)).images[0, 0]
    unit = 10 ** (0.4 * (31.4 - 26))
    assert abs(crowded.sum() - alone.sum()) < 0.06 * 50 * unit
    assert crowded.max() == pytest.approx(alone.max(), rel=0.02)


def test_galaxies_need_all_bands(tmp_path: Path) -> None:
    write_folder(tmp_path / "candels")
    stamps = load_hst(str(tmp_path), ("F125W", "F775W"))
    assert list(stamps.galaxy) == [1]
    ratio = stamps.images[0, 0].sum() / stamps.images[0, 1].sum()
    assert ratio == pytest.approx(90 / 50, rel=0.1)


def test_unreadable_images_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "candels"
    write_folder(folder)
    (folder / "2_F775W.fits").write_bytes(b"not FITS")
    fits.writeto(folder / "8_F775W.fits", np.ones((2, 2), np.float32), overwrite=True)
    stamps = load_hst(str(folder), ("F775W",))
    assert list(stamps.galaxy) == [1]
    assert stamps.skipped == 2


def test_nothing_usable_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        load_hst(str(tmp_path / "missing"))
    write_folder(tmp_path / "candels")
    with pytest.raises(ConfigError, match="no usable HST galaxy in F435W"):
        load_hst(str(tmp_path), ("F435W",))
    (tmp_path / "candels" / "catalog.ecsv").unlink()
    Table({"name": ["a"]}).write(tmp_path / "candels" / "catalog.csv")
    with pytest.raises(ConfigError, match="no column galaxy"):
        load_hst(str(tmp_path), ("F775W",))


@pytest.mark.parametrize("ratio", [2.0, 2.6])
def test_rebinning_conserves_flux_and_position(ratio: float) -> None:
    image = draw(10.0, 0.2, (0.0, 0.0))
    new = rebin(image, ratio, (60.0, 60.0), 41)
    assert new.sum() == pytest.approx(image.sum(), rel=1e-3)
    expected = galsim.Image(image, scale=SCALE).FindAdaptiveMom(weight=None).moments_sigma * SCALE
    found = galsim.Image(new, scale=SCALE).FindAdaptiveMom()
    assert found.moments_centroid.x == pytest.approx(21, abs=0.02)
    # A box of one new pixel adds its variance.
    wider = np.sqrt(expected**2 + (ratio**2 - 1) * SCALE**2 / 12)
    assert found.moments_sigma * ratio * SCALE == pytest.approx(wider, rel=0.05)


@needs_hst
def test_the_shared_collections() -> None:
    stamps = load_hst(str(HST))
    assert stamps.images.shape == (427, 1, 64, 64)
    assert stamps.psf.sum(axis=(1, 2)) == pytest.approx(np.ones(len(stamps.psf)), abs=1e-5)
    assert np.isfinite(stamps.images).all()
    # COSMOS magnitudes, measured by others, of galaxies that fit into 3.8 arcsec.
    table = Table.read(HST / "btk_cosmos_26ext_100/real_galaxy_catalog_26_extension_example.fits")
    truth = {20_000_000 + int(row["IDENT"]): float(row["MAG"]) for row in table}
    rows = [i for i, galaxy in enumerate(stamps.galaxy) if truth.get(int(galaxy), 99) < 24.5]
    found = 31.4 - 2.5 * np.log10(stamps.images[rows].sum(axis=(1, 2, 3)))
    difference = found - [truth[int(stamps.galaxy[i])] for i in rows]
    assert len(rows) > 20
    assert abs(np.median(difference)) < 0.05
