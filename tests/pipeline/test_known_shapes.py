"""``catalog --templates``: shapes of a deep image in i, fluxes on another instrument's in g.

GalSim draws both: other pixels, turned and mirrored, a wider PSF, and more noise in g.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import galsim
import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from in_process import catalogs_in_process

from raydeblend.catalog import PROFILE, read_catalog
from raydeblend.config import CatalogConfig
from raydeblend.draw.inspect import inspect_source
from raydeblend.errors import ConfigError
from raydeblend.fits import write_band
from raydeblend.pipeline.preparation import RunRequest
from raydeblend.pipeline.survey import run_catalog
from raydeblend.pipeline.verify import verify_catalog

CENTER = galsim.CelestialCoord(150.1 * galsim.degrees, 2.2 * galsim.degrees)
FIELD = 44.0
"""Side of the square of sky with galaxies, in arcsec."""
N = 36
NJY = 10 ** (0.4 * (31.4 - 27.0))
"""Of a count."""


@dataclass(frozen=True)
class Camera:
    """An image's pixels (arcsec each, turned by degrees, maybe mirrored), seeing and noise."""

    band: str
    scale: float
    roll: float
    parity: int
    fwhm: float
    noise: float

    @property
    def size(self) -> int:
        return int(1.7 * FIELD / self.scale)

    @property
    def wcs(self) -> galsim.TanWCS:
        c, s = np.cos(np.radians(self.roll)), np.sin(np.radians(self.roll))
        middle = galsim.PositionD(self.size / 2, self.size / 2)
        affine = galsim.AffineTransform(
            self.parity * self.scale * c, -self.scale * s,
            self.parity * self.scale * s, self.scale * c, middle,
        )  # fmt: skip
        return galsim.TanWCS(affine, CENTER, units=galsim.arcsec)


DEEP = Camera("i", 0.168, 0.0, 1, 0.6, 0.06)
SHALLOW = Camera("g", 0.2, 35.0, -1, 0.95, 0.25)


class Sky:
    """Galaxies of one shape in both bands: places, fluxes in counts, Sérsic indices and axes."""

    def __init__(self, seed: int = 3) -> None:
        rng = np.random.default_rng(seed)
        self.seed = seed
        u, v = rng.uniform(-FIELD / 2, FIELD / 2, (2, N))
        self.coord = [
            CENTER.deproject(*(x * galsim.arcsec for x in p)) for p in zip(u, v, strict=True)
        ]
        self.flux_i = 10 ** rng.uniform(1.4, 2.7, N)
        self.flux = {"i": self.flux_i, "g": self.flux_i * 10 ** rng.uniform(-0.6, -0.2, N)}
        self.index, self.radius = rng.choice([1.0, 1.0, 2.0], N), rng.uniform(0.3, 0.9, N)
        self.ratio, self.angle = rng.uniform(0.35, 1, N), rng.uniform(0, 180, N)

    def write(self, folder: Path, camera: Camera) -> None:
        image = galsim.ImageF(camera.size, camera.size, wcs=camera.wcs)
        psf = galsim.Moffat(beta=3.5, fwhm=camera.fwhm)
        for i, coord in enumerate(self.coord):
            shear = galsim.Shear(q=self.ratio[i], beta=self.angle[i] * galsim.degrees)
            galaxy = galsim.Sersic(self.index[i], half_light_radius=self.radius[i]).shear(shear)
            galsim.Convolve(galaxy.withFlux(self.flux[camera.band][i]), psf).drawImage(
                image, center=camera.wcs.toImage(coord), add_to_image=True
            )
        stamp = psf.drawImage(nx=41, ny=41, wcs=camera.wcs.local(world_pos=CENTER)).array
        noise = np.random.default_rng(self.seed).normal(0, camera.noise, image.array.shape)
        header = fits.Header()
        camera.wcs.writeToFitsHeader(header, image.bounds)
        write_band(
            f"{folder}/t_{camera.band}.fits", (image.array + noise).astype(np.float32),
            np.zeros(image.array.shape, np.int32),
            np.full(image.array.shape, camera.noise**2, np.float32),
            header, stamp / stamp.sum(), 10 ** (0.4 * 27), {"BAD": 0},
        )  # fmt: skip

    @property
    def ra_dec(self) -> tuple[np.ndarray, np.ndarray]:
        return tuple(np.array([getattr(c, name).deg for c in self.coord]) for name in ("ra", "dec"))


def _config(camera: Camera, **options: object) -> CatalogConfig:
    return CatalogConfig((camera.band,), survey="HSC", background="none", inject=0.0, **options)


def _run(tiles: Path, out: Path, config: CatalogConfig) -> pa.Table:
    with catalogs_in_process():
        run_catalog(str(tiles), str(out), config, progress=False)
    assert not list(verify_catalog(str(out)))
    return read_catalog(str(out))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("templates")


@pytest.fixture(scope="module")
def sky(folder: Path) -> Sky:
    sky = Sky()
    for camera in (DEEP, SHALLOW):
        sky.write(folder, camera)
    return sky


@pytest.fixture(scope="module")
def deep(sky: Sky, folder: Path) -> pa.Table:
    return _run(folder, folder / "deep", _config(DEEP))


def _matched(sky: Sky, table: pa.Table) -> np.ndarray:
    """Return the row of each galaxy, -1 where none lies within 0.3 arcsec."""
    here = SkyCoord(*sky.ra_dec, unit="deg")
    there = SkyCoord(table["ra"].to_numpy(), table["dec"].to_numpy(), unit="deg")
    row, apart, _ = here.match_to_catalog_sky(there)
    return np.where(apart.arcsec < 0.3, row, -1)


def test_shapes_in_the_catalog_are_those_on_the_sky(sky: Sky, deep: pa.Table) -> None:
    row = _matched(sky, deep)
    column = {name: deep[name].to_numpy()[row] for name in ("disk_r50", "disk_q", "disk_pa", "snr")}
    good = (row >= 0) & (column["snr"] > 50) & (sky.ratio < 0.8) & (sky.index == 1)
    assert good.sum() >= 6
    # Where a step along the major axis leads on the sky.
    step = [
        CENTER.deproject(np.cos(a) * galsim.arcsec, np.sin(a) * galsim.arcsec)
        for a in np.radians(sky.angle)
    ]
    at = SkyCoord([c.ra.deg for c in step], [c.dec.deg for c in step], unit="deg")
    angle = SkyCoord(CENTER.ra.deg, CENTER.dec.deg, unit="deg").position_angle(at).deg
    off = (column["disk_pa"] - angle + 90) % 180 - 90
    assert np.abs(off[good]).max() < 4
    np.testing.assert_allclose(column["disk_q"][good], sky.ratio[good], atol=0.05)
    np.testing.assert_allclose(column["disk_r50"][good], sky.radius[good], rtol=0.05)


@pytest.fixture(scope="module")
def known(deep: pa.Table, folder: Path) -> pa.Table:
    return _run(folder, folder / "known", _config(SHALLOW, templates=str(folder / "deep")))


def test_each_template_has_a_row_with_a_flux_and_no_shape(deep: pa.Table, known: pa.Table) -> None:
    assert sorted(known["input_id"].to_pylist()) == sorted(map(str, deep["source_id"].to_pylist()))
    assert set(known["model"].to_pylist()) == {"template"}
    for name in ("r50", "T", "g1", "R11", "bulge_fraction_g", "ra_err", *PROFILE):
        assert known[name].null_count == len(known), name
    for name in ("flux_g", "flux_err_g", "snr", "chi2", "blendedness"):
        assert known[name].null_count == 0, name
    assert np.median(known["chi2"].to_numpy()) == pytest.approx(1, abs=0.1)


def test_known_shapes_give_better_fluxes(sky: Sky, known: pa.Table, folder: Path) -> None:
    free = _run(folder, folder / "free", _config(SHALLOW, positions=str(folder / "deep")))
    wrong, error = {}, {}
    for name, table in (("known", known), ("free", free)):
        row = _matched(sky, table)
        truth = NJY * sky.flux["g"][row >= 0]
        flux, error[name] = (
            table[f"flux{part}_g"].to_numpy()[row[row >= 0]] for part in ("", "_err")
        )
        wrong[name] = np.abs(flux - truth)
        if name == "known":
            assert 0.7 < np.percentile(wrong[name] / error[name], 68) < 1.4
    assert np.median(wrong["known"]) < 0.7 * np.median(wrong["free"])
    assert np.median(error["known"]) < 0.7 * np.median(error["free"])


def test_a_table_of_shapes_at_some_positions(sky: Sky, known: pa.Table, folder: Path) -> None:
    """The true shapes, and a place without one, in a line of their own."""
    ra, dec = sky.ra_dec
    shapes = Table({"ra": ra, "dec": dec, "disk_r50": sky.radius, "disk_n": sky.index})
    # GalSim's angles are from west towards north.
    shapes["disk_q"], shapes["disk_pa"] = sky.ratio, sky.angle - 90
    shapes.write(folder / "shapes.ecsv")
    places = Table({"ra": [*ra[:5], CENTER.ra.deg], "dec": [*dec[:5], CENTER.dec.deg + 40 / 3600]})
    places.write(folder / "places.csv")
    given = {"positions": str(folder / "places.csv"), "templates": str(folder / "shapes.ecsv")}
    config = _config(SHALLOW, save=("residual",), **given)
    table = _run(folder, folder / "both", config)
    rows = {row["input_id"]: row for row in table.to_pylist()}
    assert sorted(rows) == [str(i) for i in range(6)]
    empty = rows["5"]
    assert abs(empty["flux_g"]) < 4 * empty["flux_err_g"]
    # A star's, but that the catalog's has the noise alone.
    assert empty["flux_g"] == pytest.approx(empty["flux_psf_g"], abs=0.2 * empty["flux_err_g"])
    inspect_source(str(folder / "both"), str(empty["source_id"]), str(folder / "blend.png"))
    assert (folder / "blend.png").stat().st_size > 10_000
    shapes["disk_q"] *= 0.9
    shapes.write(folder / "other.ecsv")
    other = replace(config, templates=str(folder / "other.ecsv"))
    with pytest.raises(ConfigError, match="positions_hash"), catalogs_in_process():
        run_catalog(str(folder), str(folder / "both"), other, RunRequest(resume=True))


def test_templates_do_not_move() -> None:
    with pytest.raises(ConfigError, match="leave out --free-positions"):
        _config(SHALLOW, positions="p.csv", templates="t.fits", free_positions=True)
    with pytest.raises(ConfigError, match="have no second opinion"):
        _config(SHALLOW, templates="t.fits", second_opinion="sep")
    with pytest.raises(ConfigError, match="fitted by the deblender joint"):
        _config(SHALLOW, templates="t.fits", deblender="sep")


def test_templates_are_not_overwritten_and_lie_on_tiles(
    deep: pa.Table, folder: Path, tmp_path: Path
) -> None:
    config = _config(SHALLOW, templates=str(folder / "deep"))
    with pytest.raises(ConfigError, match="deep is in the output of this run"):
        run_catalog(str(folder), str(folder / "deep"), config, RunRequest(overwrite=True))
    assert read_catalog(str(folder / "deep")).num_rows == len(deep)
    Table({"ra": [10.0], "dec": [2.0]}).write(tmp_path / "far.csv")
    far = _config(SHALLOW, positions=str(tmp_path / "far.csv"))
    with pytest.raises(ConfigError, match="none of the 1 given positions lies on a tile"):
        run_catalog(str(folder), str(tmp_path / "out"), far, progress=False)
