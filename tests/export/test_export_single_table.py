"""The catalog as one table, read back by astropy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.io.votable import parse_single_table
from astropy.io.votable.ucd import check_ucd
from astropy.table import Table
from astropy.utils.diff import report_diff_values
from export_catalog import BANDS, PER_CELL, write_catalog
from run_parts import in_two_parts

from raydeblend import catalog
from raydeblend.cli.main import main
from raydeblend.errors import ConfigError
from raydeblend.export.single_table import export_table
from raydeblend.ucds import ucd_of


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = str(tmp_path_factory.mktemp("catalog"))
    write_catalog(out, n_tiles=1, n_cells=2)
    return out


PRIMARY = 2 * PER_CELL * 9 // 10
DESCRIBED = {column.name: column for column in catalog.columns(BANDS)}


def test_every_column_has_a_ucd_of_the_vocabulary() -> None:
    for column in catalog.columns(("u", "g", "r", "i", "z", "y", "F814W", "VIS")):
        assert column.ucd, column.name
        assert check_ucd(column.ucd, check_controlled_vocabulary=True), column.ucd
        assert column.field.metadata[b"ucd"].decode() == column.ucd
    assert ucd_of("flux_psf_err_g") == "stat.error;phot.flux.density;em.opt.B"
    assert ucd_of("flux_i") == "phot.flux.density;em.opt.I"
    assert ucd_of("ra") == "pos.eq.ra;meta.main"
    assert ucd_of("no_column") == ""


@pytest.mark.parametrize(
    ("name", "kind", "read"),
    [
        ("a.fits", "fits", lambda path: Table.read(path, hdu=1)),
        ("a.vot", "votable", lambda path: Table.read(path, format="votable")),
        ("a.ecsv", "csv", lambda path: Table.read(path, format="ascii.ecsv")),
    ],
)
def test_astropy_reads_values_units_and_descriptions(
    out: str, tmp_path: Path, name: str, kind: str, read: Callable[[str], Table]
) -> None:
    path = str(tmp_path / name)
    assert export_table(out, path, kind) == PRIMARY
    table, expected = read(path), catalog.read_catalog(out).to_pandas()
    expected = expected[expected["is_primary"]]
    assert table.colnames == list(DESCRIBED)
    assert table["source_id"].tolist() == expected["source_id"].tolist()
    assert list(map(str, table["tile"])) == expected["tile"].tolist()
    flux = np.ma.filled(np.ma.asarray(table["flux_g"]).astype(float), np.nan)
    np.testing.assert_allclose(flux, expected["flux_g"], rtol=1e-6)
    assert np.isnan(flux).sum() == expected["flux_g"].isna().sum() > 0
    assert table["flux_g"].unit == u.nJy
    assert table["r50"].unit == u.arcsec
    assert table["flux_cov_g_i"].unit == u.nJy**2
    for column in ("ra", "flux_g", "p_unrecognized_blend"):
        assert " ".join(table[column].description.split()) == DESCRIBED[column].description


def test_parts_are_exported_as_one_table(out: str, tmp_path: Path) -> None:
    in_two_parts(out, tmp_path / "outs", lambda tile, cell: cell == "c0")
    pattern, whole = str(tmp_path / "outs" / "*"), str(tmp_path / "whole.fits")
    assert export_table(pattern, str(tmp_path / "parts.fits"), "fits") == PRIMARY
    export_table(out, whole, "fits")
    of_parts, of_all = (Table.read(path, hdu=1) for path in (tmp_path / "parts.fits", whole))
    assert report_diff_values(of_parts, of_all)


def test_topcat_finds_ucds_and_descriptions_in_their_cards(out: str, tmp_path: Path) -> None:
    export_table(out, str(tmp_path / "a.fits"), "fits")
    header = fits.getheader(tmp_path / "a.fits", 1)
    assert header["EXTNAME"] == "catalog"
    for number, column in enumerate(DESCRIBED.values(), start=1):
        assert header[f"TTYPE{number}"] == column.name
        assert header[f"TUCD{number}"] == column.ucd
        assert header[f"TCOMM{number}"] == column.description
    export_table(out, str(tmp_path / "a.vot"), "votable")
    fields = parse_single_table(tmp_path / "a.vot").fields
    assert [field.ucd for field in fields] == [column.ucd for column in DESCRIBED.values()]


def test_the_command_writes_csv_with_all_rows_and_replaces_nothing(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv"
    with pytest.raises(SystemExit) as ended:
        main(["export", "csv", out, str(path), "--all-rows"])
    assert not ended.value.code
    assert capsys.readouterr().out == f"{2 * PER_CELL:,} rows: {path}\n"
    frame = pd.read_csv(path)
    assert list(frame.columns) == list(DESCRIBED)
    assert len(frame) == 2 * PER_CELL
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="csv already"):
        export_table(out, str(path), "csv")
    assert path.read_bytes() == before
    assert export_table(out, str(path), "csv", overwrite=True) == PRIMARY


def test_what_is_no_catalog_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no catalog"):
        export_table(str(tmp_path), str(tmp_path / "a.fits"), "fits")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("kind", "name"), [("fits", "a.csv"), ("csv", "a.fits"), ("votable", "a")])
def test_a_name_of_another_format_is_refused(
    out: str, tmp_path: Path, kind: str, name: str
) -> None:
    with pytest.raises(ConfigError, match=rf"{name} must end in \."):
        export_table(out, str(tmp_path / name), kind)
    assert not list(tmp_path.iterdir())
