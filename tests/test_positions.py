"""Tables of positions: every format gives the same, and what is no position is named."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.table import Table
from export_catalog import write_catalog

from raydeblend.catalog import read_catalog
from raydeblend.errors import ConfigError
from raydeblend.positions import read_positions

RA, DEC, IDS = [10.5, 359.9, 0.0], [-3.25, 90.0, 12.0], ["a", "b", "c"]


def table(**columns: object) -> Table:
    return Table({"RA": RA, "Dec": DEC, "id": IDS} | columns)


@pytest.mark.parametrize("name", ["t.fits", "t.csv", "t.ecsv", "t.parquet", "t.fits.gz", "t.vot"])
def test_every_format_says_the_same(tmp_path: Path, name: str) -> None:
    path = str(tmp_path / name)
    form = {"vot": "votable", "csv": "ascii.csv"}.get(name[2:])
    table().write(path, format=form) if form else table().write(path)
    read = read_positions(path)
    np.testing.assert_array_equal(read.ra, RA)
    np.testing.assert_array_equal(read.dec, DEC)
    assert read.names.tolist() == IDS
    table().write(tmp_path / "other.csv")
    assert read.sha256 == read_positions(str(tmp_path / "other.csv")).sha256


def test_a_folder_is_its_tables_in_order(tmp_path: Path) -> None:
    table()[:1].write(tmp_path / "a.csv")
    table()[1:].write(tmp_path / "b.fits")
    assert read_positions(str(tmp_path)).names.tolist() == IDS


def test_rows_without_an_id_are_called_by_their_number(tmp_path: Path) -> None:
    Table({"ra": RA, "dec": DEC}).write(tmp_path / "t.csv")
    assert read_positions(str(tmp_path / "t.csv")).names.tolist() == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            {"RA": [10.5, 361.0, 0.0]},
            r"row 1 .* not a position on the sky: ra 361\.0.* 0 to 360",
        ),
        ({"Dec": [0.0, np.nan, 0.0]}, "row 1 .* dec nan"),
        ({"id": ["a", "b", "a"]}, "have the id a twice"),
        ({"RA": ["1h", "2h", "3h"]}, "ra of the positions .* must be in deg, as numbers"),
    ],
)
def test_what_is_no_position_is_named(tmp_path: Path, columns: dict, said: str) -> None:
    table(**columns).write(tmp_path / "t.ecsv")
    with pytest.raises(ConfigError, match=said):
        read_positions(str(tmp_path / "t.ecsv"))


def test_tables_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no table of positions; give .*\.parquet"):
        read_positions(str(tmp_path))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_positions(str(tmp_path / "none.fits"))
    (tmp_path / "bad.parquet").write_bytes(b"no")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_positions(str(tmp_path / "bad.parquet"))
    Table({"ra": RA, "delta": DEC}).write(tmp_path / "t.csv")
    with pytest.raises(ConfigError, match="lack the column dec; found are ra, delta"):
        read_positions(str(tmp_path / "t.csv"))
    table()[:0].write(tmp_path / "empty.ecsv")
    with pytest.raises(ConfigError, match="have no row"):
        read_positions(str(tmp_path / "empty.ecsv"))


def test_what_is_missing_is_not_taken_for_a_number(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("ra,dec,id\n1,0,a\n,0,b\n3,0,c\n")
    with pytest.raises(ConfigError, match=r"row 1 .* not a position on the sky: ra nan"):
        read_positions(str(tmp_path / "t.csv"))
    (tmp_path / "t.csv").write_text("ra,dec,id\n1,0,5\n2,0,\n")
    with pytest.raises(ConfigError, match=r"row 1 of the positions .* has no id"):
        read_positions(str(tmp_path / "t.csv"))
    pq.write_table(
        pa.table({"ra": RA, "dec": DEC, "id": [1, None, 2**60 + 1]}), tmp_path / "t.parquet"
    )
    with pytest.raises(ConfigError, match=r"row 1 of the positions .* has no id"):
        read_positions(str(tmp_path / "t.parquet"))


def test_large_whole_ids_keep_their_digits(tmp_path: Path) -> None:
    ids = [1, 2, 2**60 + 1]
    pq.write_table(pa.table({"ra": RA, "dec": DEC, "id": ids}), tmp_path / "t.parquet")
    assert read_positions(str(tmp_path / "t.parquet")).names.tolist() == [str(i) for i in ids]


def test_a_unit_of_the_file_is_heeded(tmp_path: Path) -> None:
    units = Table({"ra": np.radians(RA) * u.rad, "dec": np.radians(DEC) * u.rad})
    units.write(tmp_path / "t.fits")
    np.testing.assert_allclose(read_positions(str(tmp_path / "t.fits")).ra, RA, atol=1e-12)


def test_a_run_is_its_primary_rows(tmp_path: Path) -> None:
    write_catalog(str(tmp_path), n_tiles=2, n_cells=1)
    rows = read_catalog(str(tmp_path)).to_pandas()
    read = read_positions(str(tmp_path))
    assert read.names.tolist() == rows["source_id"][rows["is_primary"]].astype(str).tolist()
    assert 0 < len(read) < len(rows)
