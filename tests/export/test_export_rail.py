"""Magnitudes for photometric redshifts, in the layout that RAIL reads by default."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from astropy import units as u
from astropy.table import Table
from export_catalog import BANDS, write_catalog

from raydeblend import catalog
from raydeblend.cli.main import main
from raydeblend.errors import ConfigError
from raydeblend.export.rail import RailConfig, export_rail, magnitudes


def test_magnitudes_are_astropys_and_the_rest_is_told_apart() -> None:
    flux = np.array([3631.0, 40.0, 9.0, -5.0, np.nan, 7.0])
    error = np.array([10.0, 8.0, 10.0, 10.0, 10.0, np.nan])
    magnitude, sigma = magnitudes(flux, error, 1.0)
    np.testing.assert_allclose(magnitude[:2], (flux[:2] * u.nJy).to_value(u.ABmag), atol=1e-3)
    # An error of a small part of the flux is that part of 1.0857.
    assert sigma[0] == pytest.approx(1.0857 * 10 / 3631, rel=1e-4)
    assert magnitude[2:4].tolist() == sigma[2:4].tolist() == [99.0, 99.0]
    assert np.isnan([*magnitude[4:], *sigma[4:]]).all()
    assert magnitudes(flux, error, 6.0)[0][1] == 99.0


def test_the_file_has_rails_default_columns_and_parameters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, target = str(tmp_path / "out"), tmp_path / "photometry.parquet"
    write_catalog(out, n_tiles=1, n_cells=2)
    with pytest.raises(SystemExit) as ended:
        main(["export", "rail", out, str(target), "--least-snr", "3"])
    assert not ended.value.code
    rows = catalog.read_catalog(out).to_pandas()
    rows = rows[rows["is_primary"]]
    assert capsys.readouterr().out == f"{len(rows):,} rows: {target}\n"
    table = pd.read_parquet(target)
    assert table["source_id"].tolist() == rows["source_id"].tolist()
    faint = (rows["flux_i"] < 3 * rows["flux_err_i"]).to_numpy()
    assert ((table["mag_i_lsst"] == 99.0) == faint).all()
    assert 0 < faint.sum() < len(faint)
    assert (table["mag_g_lsst"].isna() == rows["flux_g"].isna().to_numpy()).all()
    units = {name: column.unit for name, column in Table.read(target, format="parquet").items()}
    assert (units["ra"], units["mag_i_lsst"], units["mag_err_g_lsst"]) == (u.deg, u.mag, u.mag)
    said = yaml.safe_load((tmp_path / "photometry.yaml").read_text())
    assert said["bands"] == [f"mag_{band}_lsst" for band in BANDS]
    assert said["err_bands"] == [f"mag_err_{band}_lsst" for band in BANDS]
    assert set(said["bands"] + said["err_bands"]) < set(table.columns)
    assert said["ref_band"] == "mag_i_lsst"
    # The error of the flux of one sigma.
    median = rows["flux_err_i"].median() * u.nJy
    assert said["mag_limits"]["mag_i_lsst"] == pytest.approx(median.to_value(u.ABmag), abs=2e-3)
    with pytest.raises(ConfigError, match=r"photometry\.parquet, photometry\.yaml already"):
        export_rail(out, str(target))


def test_rails_own_reader_reads_it(tmp_path: Path) -> None:
    """By tables_io, which RAIL's handles of data use."""
    tables_io = pytest.importorskip("tables_io")
    write_catalog(str(tmp_path / "out"), n_tiles=1, n_cells=1)
    target = str(tmp_path / "photometry.parquet")
    n_rows = export_rail(str(tmp_path / "out"), target)
    read = tables_io.read(target, tables_io.types.NUMPY_DICT)
    units = {name: column.unit for name, column in Table.read(target, format="parquet").items()}
    assert (units["ra"], units["mag_i_lsst"], units["mag_err_g_lsst"]) == (u.deg, u.mag, u.mag)
    said = yaml.safe_load((tmp_path / "photometry.yaml").read_text())
    for name in (said["object_id_col"], *said["bands"], *said["err_bands"]):
        assert np.shape(read[name]) == (n_rows,), name
    np.testing.assert_array_equal(read["mag_i_lsst"], pd.read_parquet(target)["mag_i_lsst"])


def test_what_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.parquet"):
        export_rail(str(tmp_path), str(tmp_path / "a.hdf5"))
    with pytest.raises(ConfigError, match="above 0, not -1"):
        RailConfig(least_snr=-1)
