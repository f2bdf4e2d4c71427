"""``OUT/catalog`` as the tools that astronomers use open it, told only the path."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import dask.dataframe as dd
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
from raydeblend.pipeline.shards import shard_path

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
    return compared(pa.concat_tables(shards).to_pandas())


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
    check(ds.dataset(out / "catalog", partitioning="hive").to_table().to_pandas(), expected)


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


@pytest.mark.filterwarnings("error")
def test_astropy_with_units_shard_by_shard(out: Path, expected: pd.DataFrame) -> None:
    parts = []
    for path in sorted(out.glob("catalog/*/*.parquet")):
        parts.append(QTable.read(path, format="parquet"))
    table = vstack(parts)
    assert table["flux_g"].unit == u.nJy
    assert table["T"].unit == u.arcsec**2
    assert table["ra"].unit == u.deg
    assert table["ra"].info.description == "right ascension, ICRS"
    described = {column.name: column.description for column in catalog.columns(BANDS)}
    assert {name: table[name].info.description for name in described} == described
    plain = {name: np.asarray(table[name]) for name in expected.columns}
    check(pd.DataFrame(plain), expected)


@pytest.mark.filterwarnings("error")
def test_astropy_reads_a_shard_without_sources(tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    path.write_bytes(catalog.to_bytes(catalog.schema(BANDS).empty_table()))
    table = QTable.read(path, format="parquet")
    assert len(table) == 0
    assert table["flux_g"].unit == u.nJy


def test_astropy_from_pandas(out: Path, expected: pd.DataFrame) -> None:
    check(Table.from_pandas(pd.read_parquet(out / "catalog")).to_pandas(), expected)


NAMES = {
    "numbers": ["0013", "9813"],
    "one number": ["5"],
    "a number and a word": ["0013", "abc"],
    "floats": ["1e5", "2.5", "-7", "+1", "inf"],
    "long numbers": ["9223372036854775807"],
    "a longer number": ["99999999999999999999"],
    "long and short": ["12", "-99999999999999999999"],
    "18 digits": ["999999999999999999"],
    "no numbers": ["1e999", "0x10", "1_000", "12.", "١٢"],
    "no days": ["2024-02-31", "2024-13-01"],
    "no times": ["2024-01-01T25:00:00"],
    "days": ["2024-01-01", "2024-01-02"],
    "times": ["2024-01-01 00:00:00", "2024-01-02T10:00:00Z"],
    "booleans": ["true", "false"],
    "null": ["null"],
    "nan": ["nan", "NaN"],
    "hive's null": ["__HIVE_DEFAULT_PARTITION__"],
    "hive's null and a number": ["__HIVE_DEFAULT_PARTITION__", "12"],
    "signs": ["a=b", "tile=3", "50%", "a%20b", "a/b", "a\\b", "#", "a:b", "*", "[1]", "?", "'"],
    "hidden": ["_x", ".y", "..", "~"],
    "spaces": [" ", " 1 ", "a b", "\t"],
    "other scripts": ["\u00fc", "\u03b1 Cen", "\u661f", "\U0001f320"],
}


def _duckdb(path: str, options: str) -> pd.DataFrame:
    return duckdb.sql(f"SELECT * FROM read_parquet('{path}/*/*.parquet'{options})").df()


READERS: dict[str, Callable[[str], pd.DataFrame]] = {
    "pandas": pd.read_parquet,
    "read_table": lambda path: pq.read_table(path).to_pandas(),
    "read_table without folders": lambda path: pq.read_table(path, partitioning=None).to_pandas(),
    "dataset": lambda path: ds.dataset(path).to_table().to_pandas(),
    "hive": lambda path: ds.dataset(path, partitioning="hive").to_table().to_pandas(),
    "dask": lambda path: dd.read_parquet(path).compute(),
    "polars": lambda path: pl.read_parquet(path).to_pandas(),
    "polars, hive": lambda path: pl.read_parquet(path, hive_partitioning=True).to_pandas(),
    "polars, no hive": lambda path: pl.read_parquet(path, hive_partitioning=False).to_pandas(),
    "polars, glob": lambda path: pl.read_parquet(f"{path}/**/*.parquet").to_pandas(),
    "DuckDB": lambda path: _duckdb(path, ""),
    "DuckDB, hive": lambda path: _duckdb(path, ", hive_partitioning=true"),
    "DuckDB, no hive": lambda path: _duckdb(path, ", hive_partitioning=false"),
    "ours": lambda path: catalog.read_catalog(path.removesuffix("/catalog")).to_pandas(),
}


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[str, list[str]]]:
    """Write catalogs of two sources for each tile; the first has the first tile's name."""
    made: dict[str, str] = {}

    def make(kind: str) -> tuple[str, list[str]]:
        if kind not in made:
            made[kind] = str(tmp_path_factory.mktemp("named"))
            for number, tile in enumerate(NAMES[kind]):
                _write_tile(made[kind], tile, 2 * number)
        return f"{made[kind]}/catalog", NAMES[kind]

    return make


def _write_tile(out: str, tile: str, first: int) -> None:
    rows = {field.name: np.zeros(2) for field in catalog.schema(BANDS)}
    words = [field.name for field in catalog.schema(BANDS) if field.type == pa.string()]
    rows |= {name: np.full(2, "x") for name in words} | {"tile": np.full(2, tile)}
    rows["source_id"] = first + np.arange(2)
    path = Path(shard_path(out, tile, "c0"))
    path.parent.mkdir(parents=True)
    path.write_bytes(catalog.to_bytes(catalog.to_table(rows, BANDS)))


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_gives_every_name_of_a_tile_as_it_is(
    named: Callable[[str], tuple[str, list[str]]], kind: str, reader: str
) -> None:
    path, names = named(kind)
    frame = READERS[reader](path).sort_values("source_id")
    assert frame["source_id"].tolist() == list(range(2 * len(names)))
    assert frame["tile"].tolist() == [name for name in names for _ in range(2)]


@pytest.mark.parametrize("kind", NAMES)
def test_folders_are_as_spark_takes_them(
    named: Callable[[str], tuple[str, list[str]]], kind: str
) -> None:
    """It reads files of folders ``key=value`` alone, all of the same keys, no column of the file.

    It takes a name with _ or . in front for hidden (`PartitioningUtils`, `HadoopFSUtils`).
    """
    path, names = named(kind)
    files = [file.relative_to(path) for file in Path(path).rglob("*.parquet")]
    assert len(files) == len(names)
    keys = {folder.partition("=")[0] for file in files for folder in file.parts[:-1]}
    assert len(keys) == 1
    assert not keys & set(catalog.schema(BANDS).names)
    values = [folder.partition("=")[2] for file in files for folder in file.parts[:-1]]
    assert all(value and "=" not in value for value in values)
    assert "__HIVE_DEFAULT_PARTITION__" not in {*values, *map(unquote, values)}
    assert not any(part[0] in "._" for file in files for part in file.parts)
