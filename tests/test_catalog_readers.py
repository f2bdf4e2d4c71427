"""``OUT/catalog`` as the tools that astronomers use open it, told only the path."""

from pathlib import Path
from urllib.parse import unquote

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.table import QTable, Table, vstack
from export_catalog import BANDS, PER_CELL, write_catalog

from raydeblend import catalog

N_TILES, N_CELLS = 2, 2
N_ROWS = N_TILES * N_CELLS * PER_CELL
# A comma and a percent sign: names that are encoded in paths.
TILES = ["t%,0", "t%,1"]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_catalog(str(folder), N_TILES, N_CELLS)
    return folder


@pytest.fixture(scope="module")
def expected(out: Path) -> pd.DataFrame:
    """Some columns of all rows, read shard by shard without any path being understood."""
    shards = [pq.ParquetFile(path).read() for path in out.glob("catalog/*/*.parquet")]
    return compared(pa.concat_tables(shards).unify_dictionaries().to_pandas())


def compared(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame[["source_id", "tile", "cell", "ra", "flux_g", "is_primary"]]
    frame = frame.astype({"tile": object, "cell": object, "flux_g": np.float32, "ra": np.float64})
    return frame.sort_values("source_id", ignore_index=True)


def check(frame: pd.DataFrame, expected: pd.DataFrame) -> None:
    assert len(frame) == N_ROWS
    pd.testing.assert_frame_equal(compared(frame), expected, check_dtype=False)
    assert sorted(set(frame["tile"])) == TILES
    assert sorted(set(frame["cell"])) == ["c0", "c1"]
    assert frame["flux_g"].isna().sum() == N_TILES * N_CELLS * len(range(0, PER_CELL, 7))


def test_pandas(out: Path, expected: pd.DataFrame) -> None:
    check(pd.read_parquet(out / "catalog"), expected)


def test_pyarrow_read_table(out: Path, expected: pd.DataFrame) -> None:
    table = pq.read_table(out / "catalog")
    check(table.to_pandas(), expected)
    assert table.schema.field("flux_g").metadata[b"unit"] == b"nJy"
    bright = pq.read_table(out / "catalog", filters=[("tile", "=", "t%,1"), ("cell", "=", "c0")])
    assert bright.num_rows == PER_CELL


def test_a_pyarrow_dataset(out: Path, expected: pd.DataFrame) -> None:
    check(ds.dataset(out / "catalog").to_table().to_pandas(), expected)
    # Where the path is to be understood too, names in it must be called what the column is.
    hive = ds.HivePartitioning.discover(infer_dictionary=True)
    check(ds.dataset(out / "catalog", partitioning=hive).to_table().to_pandas(), expected)


@pytest.mark.parametrize("path", ["catalog", "catalog/**/*.parquet"])
@pytest.mark.parametrize("hive", [None, True, False])
def test_polars(out: Path, expected: pd.DataFrame, path: str, hive: bool | None) -> None:
    frame = pl.scan_parquet(out / path, hive_partitioning=hive)
    columns = [pl.col(name).cast(pl.String) for name in ("tile", "cell")]
    check(frame.with_columns(columns).collect().to_pandas(), expected)
    one = frame.filter(pl.col("tile") == "t%,1").collect()
    assert len(one) == N_CELLS * PER_CELL


@pytest.mark.parametrize("hive", ["", ", hive_partitioning=true", ", hive_partitioning=false"])
def test_duckdb(out: Path, expected: pd.DataFrame, hive: str) -> None:
    source = f"read_parquet('{out}/catalog/*/*.parquet'{hive})"
    check(duckdb.sql(f"SELECT * FROM {source}").df(), expected)
    n = duckdb.sql(f"SELECT count(*) FROM {source} WHERE tile = 't%,1' AND cell = 'c0'").fetchall()
    assert n == [(PER_CELL,)]


def test_astropy_with_units_shard_by_shard(out: Path, expected: pd.DataFrame) -> None:
    parts = []
    for path in sorted(out.glob("catalog/*/*.parquet")):
        # astropy reads no dictionary; the tile is in the path.
        part = QTable.read(path, format="parquet", exclude_names=["tile"])
        part["tile"] = unquote(path.parent.name.removeprefix("tile="))
        parts.append(part)
    table = vstack(parts)
    assert table["flux_g"].unit == u.nJy
    assert table["T"].unit == u.arcsec**2
    assert table["ra"].unit == u.deg
    assert table["ra"].info.description == "right ascension, ICRS"
    described = {column.name: column.description for column in catalog.columns(BANDS)}
    assert {name: table[name].info.description for name in described if name != "tile"} == {
        name: text for name, text in described.items() if name != "tile"
    }
    plain = {name: np.asarray(table[name]) for name in expected.columns}
    check(pd.DataFrame(plain), expected)


def test_astropy_from_pandas(out: Path, expected: pd.DataFrame) -> None:
    check(Table.from_pandas(pd.read_parquet(out / "catalog")).to_pandas(), expected)
