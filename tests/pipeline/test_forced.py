"""``catalog --positions``: one row a position, with fluxes that are right, and no other row."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from in_process import catalogs_in_process

from benchmarks.gaussian_sky import BANDS, COLORS, PROJECTION, draw_galaxies, write_tile
from raydeblend.catalog import read_catalog
from raydeblend.cli.main import main
from raydeblend.config import CatalogConfig
from raydeblend.draw.inspect import inspect_source
from raydeblend.errors import ConfigError
from raydeblend.flags import Flag
from raydeblend.pipeline.survey import run_catalog
from raydeblend.pipeline.verify import verify_catalog

SIZE, SEEN, FAINT, EMPTY = 420, 40, 30, 60
CONFIG = CatalogConfig(BANDS, survey="HSC", cell_size=210)
DISK = 2.4
"""Width (sigma, pixels) of the galaxies as they are seen; the PSF's is 1.8."""


def _wcs() -> WCS:
    return WCS(PROJECTION | {"CRVAL1": 150.0, "CRVAL2": 2.0})


def _places(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(10, SIZE - 10, (n, 2))


class Sky:
    """Galaxies well above the noise, others far below detection, and empty places."""

    def __init__(self, folder: Path) -> None:
        self.xy = np.concatenate([_places(SEEN, 1), _places(FAINT, 2), _places(EMPTY, 3)])
        self.flux = np.repeat([2000.0, 25.0, 0.0], [SEEN, FAINT, EMPTY])
        light = draw_galaxies(self.xy, self.flux, np.full(len(self.xy), DISK), SIZE)
        self.tiles = str(folder / "tiles")
        Path(self.tiles).mkdir()
        write_tile(self.tiles, "a", light)
        self.table = str(folder / "places.fits")
        self.places = Table(
            {
                **dict(zip(("ra", "dec"), _wcs().all_pix2world(self.xy, 0).T, strict=True)),
                "id": [f"p{i}" for i in range(len(self.xy))],
            }
        )
        self.places.write(self.table)

    def catalog(self, out: Path, config: CatalogConfig) -> pa.Table:
        with catalogs_in_process():
            run_catalog(self.tiles, str(out), replace(config, positions=self.table), progress=False)
        assert not list(verify_catalog(str(out)))
        return read_catalog(str(out))


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Sky:
    return Sky(tmp_path_factory.mktemp("forced"))


@pytest.fixture(scope="module")
def held(sky: Sky, tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    return sky.catalog(tmp_path_factory.mktemp("held") / "out", CONFIG)


def _in_order(sky: Sky, table: pa.Table, column: str) -> np.ndarray:
    """Return a column in the order of the positions."""
    rows = dict(zip(table["input_id"].to_pylist(), table[column].to_pylist(), strict=True))
    return np.array([rows[name] for name in sky.places["id"]], dtype=np.float64)


def test_one_row_a_position_at_its_place(sky: Sky, held: pa.Table) -> None:
    assert sorted(held["input_id"].to_pylist()) == sorted(sky.places["id"])
    assert len(set(held["source_id"].to_pylist())) == len(held)
    x, y = (_in_order(sky, held, name) for name in "xy")
    assert np.hypot(x - sky.xy[:, 0], y - sky.xy[:, 1]).max() < 0.3
    flags = _in_order(sky, held, "flags").astype(int)
    assert not (flags & Flag.UNLISTED_PEAK).any()


@pytest.mark.parametrize(("band", "color"), zip(BANDS, COLORS, strict=True))
def test_fluxes_of_what_is_seen(sky: Sky, held: pa.Table, band: str, color: float) -> None:
    njy = 10 ** (0.4 * (31.4 - 27.0))
    flux, error = (_in_order(sky, held, f"{name}_{band}") for name in ("flux", "flux_err"))
    ratio = flux[:SEEN] / (color * njy * sky.flux[:SEEN])
    assert np.median(ratio) == pytest.approx(1, abs=0.03)
    pulls = (flux - color * njy * sky.flux)[:SEEN] / error[:SEEN]
    assert np.percentile(np.abs(pulls), 68) < 1.4


def test_point_fluxes_of_empty_places_are_noise_about_zero(sky: Sky, held: pa.Table) -> None:
    for band in BANDS:
        flux, error = (_in_order(sky, held, f"flux_psf_{n}{band}") for n in ("", "err_"))
        # Far from galaxies, whose light has models.
        pulls = (flux / error)[-EMPTY:]
        apart = np.linalg.norm(sky.xy[-EMPTY:, None] - sky.xy[None, :-EMPTY], axis=2).min(1) > 15
        assert np.sum(apart) > 15
        assert abs(np.mean(pulls[apart])) < 3 / np.sqrt(np.sum(apart))
        assert 0.6 < np.std(pulls[apart]) < 1.5


def test_positions_may_be_freed(sky: Sky, tmp_path: Path) -> None:
    shifted = sky.places.copy()
    shifted["ra"] += 0.1 / 3600
    path = str(tmp_path / "shifted.fits")
    shifted.write(path)
    free = replace(CONFIG, positions=path, free_positions=True)
    with catalogs_in_process():
        run_catalog(sky.tiles, str(tmp_path / "out"), free, progress=False)
    table = read_catalog(str(tmp_path / "out"))
    x = _in_order(sky, table, "x")
    # 0.1 arcsec are 0.6 pixels.
    assert np.median(np.abs(x - sky.xy[:, 0])[:SEEN]) < 0.1


def test_the_table_counts_by_what_it_says(sky: Sky, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sky.catalog(out, CONFIG)
    copy = tmp_path / "copy.csv"
    sky.places.write(copy)
    arguments = ["catalog", sky.tiles, str(out), "--bands", ",".join(BANDS), "--survey", "HSC"]
    arguments += ["--cell-size", "210", "--resume", "--positions"]
    sky.places[:-1].write(tmp_path / "less.csv")
    for table, code in ((copy, 0), (tmp_path / "less.csv", 2)):
        with catalogs_in_process(), pytest.raises(SystemExit) as stopped:
            main([*arguments, str(table)])
        assert stopped.value.code == code


def test_positions_need_the_joint_fit(sky: Sky) -> None:
    with pytest.raises(ConfigError, match=r"fitted by the deblender joint .* not by sep"):
        replace(CONFIG, positions=sky.table, deblender="sep")
    with pytest.raises(ConfigError, match="--free-positions requires --positions"):
        replace(CONFIG, free_positions=True)


def test_inspect_draws_what_was_forced(sky: Sky, tmp_path: Path) -> None:
    out = tmp_path / "out"
    table = sky.catalog(out, CONFIG)
    ids = dict(zip(table["input_id"].to_pylist(), table["source_id"].to_pylist(), strict=True))
    for name in ("p0", f"p{len(sky.xy) - 1}"):
        picture = tmp_path / f"{name}.png"
        inspect_source(str(out), str(ids[name]), str(picture))
        assert picture.stat().st_size > 10_000


def test_positions_that_cannot_be_measured_have_rows_too(sky: Sky, tmp_path: Path) -> None:
    """Two in one pixel, one deep in a hole of the data, and one in a cell without any."""
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    for band in BANDS:
        with fits.open(f"{sky.tiles}/a_{band}.fits") as hdus:
            hdus["MASK"].data[:210, :210] = 1 << hdus["MASK"].header["MP_BAD"]
            hdus["MASK"].data[300:380, 300:380] = 1 << hdus["MASK"].header["MP_BAD"]
            hdus.writeto(tiles / f"a_{band}.fits")
    first = sky.xy[np.all(sky.xy[:SEEN] > 230, axis=1).argmax()]
    pixel = np.floor(first + 0.5)
    again = pixel + np.where(first > pixel, -0.3, 0.3)
    xy = np.array([first, again, first, [340.0, 340.0], [60.2, 70.4], [60.2, 70.4]])
    ra, dec = _wcs().all_pix2world(xy, 0).T
    names = ["first", "again", "twice", "hole", "empty", "empty twice"]
    Table({"ra": ra, "dec": dec, "id": names}).write(tmp_path / "places.fits")
    config = replace(CONFIG, positions=str(tmp_path / "places.fits"))
    with catalogs_in_process():
        run_catalog(str(tiles), str(tmp_path / "out"), config, progress=False)
    assert not list(verify_catalog(str(tmp_path / "out")))
    rows = {row["input_id"]: row for row in read_catalog(str(tmp_path / "out")).to_pylist()}
    assert sorted(rows) == sorted(names)
    for name, place in zip(names, xy, strict=True):
        row = rows[name]
        assert (row["x"], row["y"]) == pytest.approx(place, abs=0.05), name
        assert (row["flux_i"] is None) == (name != "first"), name
        assert bool(row["flags"] & Flag.REPEATED_POSITION) == (
            name.split()[-1] in ("again", "twice")
        )
        assert bool(row["flags"] & Flag.NOT_ATTEMPTED) == bool(
            row["flags"] & Flag.REPEATED_POSITION
        )
    for name in ("hole", "empty"):
        assert rows[name]["flags"] & Flag.FIT_FAILED
