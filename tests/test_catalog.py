import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydeblend import catalog
from raydeblend.errors import ConfigError

BANDS = ("g", "i")
WORDS = ("tile", "cell", "input_id", "model", "photometry", "deblender", "quality")
FIXED = [
    *("source_id", "tile", "cell", "parent_id", "n_blended", "ra", "dec", "x", "y", "is_primary"),
    *("flux_g", "flux_err_g", "flux_i", "flux_err_i", "snr", "T", "T_err"),
    *("g1", "g2", "g1_err", "g2_err", "chi2", "model", "photometry", "deblender", "quality"),
    *("blendedness", "p_unrecognized_blend", "flags"),
]
PROFILE = ["disk_r50", "disk_n", "disk_q", "disk_pa", "bulge_r50", "bulge_q", "bulge_pa"]
LAST = ["input_id", "disagreement", "p_bad", *PROFILE]
BEFORE = ["coverage_g", "coverage_i", "R11", "R22", "R12", *LAST]
ADDED = [
    *BEFORE,
    *("ra_err", "dec_err", "ra_dec_cov", "flux_psf_g", "flux_psf_err_g", "bulge_fraction_g"),
    *("flux_psf_i", "flux_psf_err_i", "bulge_fraction_i", "flux_cov_g_i", "r50", "p_star"),
]


def make_rows(n=3, tile="a,b"):
    rows = {name: np.arange(n) for name in [*FIXED, *ADDED]}
    rows |= {name: np.full(n, tile) for name in WORDS}
    rows["is_primary"] = np.ones(n, dtype=bool)
    rows["flux_g"] = np.array([1.5, np.nan, -2.0])[:n]
    return rows


def test_columns_are_those_of_the_contract():
    schema = catalog.schema(BANDS)
    assert [name for name in schema.names if name not in ADDED] == FIXED
    assert set(schema.names) == {*FIXED, *ADDED}
    types = {"source_id": "int64", "n_blended": "int16", "flags": "int32", "ra": "double"}
    assert {name: str(schema.field(name).type) for name in types} == types


def test_every_column_says_its_unit_and_what_it_is():
    table = catalog.from_bytes(catalog.to_bytes(catalog.to_table(make_rows(), BANDS)))
    said = {field.name: field.metadata for field in table.schema}
    assert all(len(metadata[b"description"]) > 5 for metadata in said.values())
    units = {"flux_g": b"nJy", "flux_err_i": b"nJy", "ra": b"deg", "T": b"arcsec2", "x": b"pix"}
    units |= {"ra_err": b"arcsec", "ra_dec_cov": b"arcsec2", "flux_psf_g": b"nJy", "r50": b"arcsec"}
    units |= {"flux_cov_g_i": b"nJy2", "p_star": b"", "bulge_fraction_i": b""}
    assert {name: said[name][b"unit"] for name in units} == units


def test_a_value_that_was_not_measured_is_null():
    table = catalog.to_table(make_rows(), BANDS)
    assert table["flux_g"].to_pylist() == [1.5, None, -2.0]
    assert table["source_id"].null_count == 0


def test_a_missing_column_is_an_error():
    rows = make_rows()
    del rows["chi2"]
    with pytest.raises(KeyError, match="chi2"):
        catalog.to_table(rows, BANDS)


def test_equal_tables_give_equal_bytes():
    first, second = (catalog.to_bytes(catalog.to_table(make_rows(), BANDS)) for _ in range(2))
    assert first == second


def test_a_truncated_shard_cannot_be_read():
    data = catalog.to_bytes(catalog.to_table(make_rows(), BANDS))
    with pytest.raises(pa.ArrowInvalid):
        catalog.from_bytes(data[:-20])


def test_other_readers_open_a_directory_of_shards(tmp_path):
    for tile in ("a,b", "c"):
        path = tmp_path / "catalog" / f"of_tile={tile}" / "cell=0.parquet"
        path.parent.mkdir(parents=True)
        path.write_bytes(catalog.to_bytes(catalog.to_table(make_rows(tile=tile), BANDS)))
    frame = pd.read_parquet(tmp_path / "catalog")
    assert sorted(set(frame["tile"])) == ["a,b", "c"]
    assert pq.read_table(tmp_path / "catalog").num_rows == 6
    assert catalog.read_catalog(str(tmp_path))["tile"].to_pylist() == ["a,b"] * 3 + ["c"] * 3


def test_reading_a_directory_without_shards_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="holds no catalog"):
        catalog.read_catalog(str(tmp_path))


@pytest.mark.parametrize("later", [ADDED, BEFORE, LAST, PROFILE])
def test_an_early_catalog_is_read_with_nulls_for_what_was_added(tmp_path, later):
    whole = catalog.to_table(make_rows(), BANDS)
    table = whole.select([name for name in whole.column_names if name not in later])
    path = tmp_path / "catalog" / "of_tile=t" / "cell=0.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(catalog.to_bytes(table))
    read = catalog.read_catalog(str(tmp_path))
    fields = read.schema.with_metadata(None)
    assert fields.equals(catalog.schema(BANDS).with_metadata(None), check_metadata=True)
    assert read.select(table.column_names).equals(table)
    words = [name for name in later if name in WORDS]
    assert all(read[name].to_pylist() == [""] * 3 for name in words)
    assert all(read[name].null_count == 3 for name in later if name not in words)


def test_a_table_with_some_of_the_added_columns_is_left_alone():
    table = catalog.to_table(make_rows(), BANDS).select([*FIXED, "r50"])
    assert catalog.with_added_columns(table) is table
