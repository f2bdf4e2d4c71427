"""HATS export, checked with LSDB and against a match of all pairs without any partition."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import astropy.units as u
import hats
import lsdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord, search_around_sky
from export_catalog import BANDS, PER_CELL, write_catalog
from run_parts import in_two_parts
from s3 import S3Server, s3_server  # noqa: F401
from upath import UPath

from raydeblend import catalog, storage, tables
from raydeblend.errors import ConfigError
from raydeblend.export.hats import Exported, HatsConfig, export_hats

N_CELLS = 12
N_PRIMARY = N_CELLS * PER_CELL * 9 // 10
CONFIG = HatsConfig(margin_arcsec=60, rows_per_partition=1200)
RADIUS_ARCSEC = 45.0


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("run") / "out")
    write_catalog(folder)
    return folder


@pytest.fixture(scope="module")
def exported(out: str, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    target = tmp_path_factory.mktemp("hats") / "survey"
    return export_hats(out, str(target), CONFIG, workers=1, progress=False)


def primary(out: str) -> pd.DataFrame:
    frame = catalog.read_catalog(out).to_pandas()
    return frame[frame["is_primary"]].sort_values("source_id", ignore_index=True)


def test_lsdb_reads_every_primary_row_once(out: str, exported: Exported) -> None:
    opened = lsdb.open_catalog(exported.path)
    found = opened.compute().sort_values("source_id", ignore_index=True)
    expected = primary(out)
    assert len(opened) == exported.n_rows == N_PRIMARY
    assert exported.n_partitions == len(opened.get_healpix_pixels()) > 4
    for name in expected.columns:
        ours, theirs = (frame[name].fillna(-99).to_numpy() for frame in (expected, found))
        assert (ours == theirs).all(), name


def test_a_cross_match_finds_what_a_search_of_all_pairs_finds(out: str, exported: Exported) -> None:
    rng = np.random.default_rng(8)
    ours = primary(out)
    step = rng.normal(0, 25 / 3600, (2, len(ours)))
    other = pd.DataFrame({"n": np.arange(len(ours)), "ra": ours["ra"] + step[0]})
    other["dec"] = ours["dec"] + step[1]
    left = lsdb.from_dataframe(other, margin_threshold=None, partition_rows=1000)
    right = lsdb.open_catalog(exported.path)
    matched = left.crossmatch(
        right, radius_arcsec=RADIUS_ARCSEC, n_neighbors=20, suffixes=("_a", "_b")
    ).compute()
    first, second, _, _ = search_around_sky(
        SkyCoord(other["ra"].to_numpy(), other["dec"].to_numpy(), unit="deg"),
        SkyCoord(ours["ra"].to_numpy(), ours["dec"].to_numpy(), unit="deg"),
        RADIUS_ARCSEC * u.arcsec,
    )
    expected = set(zip(first.tolist(), ours["source_id"].to_numpy()[second].tolist(), strict=True))
    assert len(expected) > 3000
    assert set(zip(matched["n_a"].tolist(), matched["source_id_b"].tolist(), strict=True)) == (
        expected
    )
    # The test has pairs across the edges of partitions, which only the margin can give.
    assert exported.n_margin_rows > 100


def test_hats_import_makes_the_same(out: str, exported: Exported, tmp_path: Path) -> None:
    """The tool that large surveys use, on all rows at once: the same rows in the same files."""
    from dask.distributed import Client
    from hats_import.catalog.file_readers import ParquetPyarrowReader
    from hats_import.collection.arguments import CollectionArguments
    from hats_import.pipeline import pipeline_with_client

    rows, schema = catalog.read_catalog(out), tmp_path / "schema.parquet"
    pq.write_table(rows.filter(rows["is_primary"]), tmp_path / "rows.parquet")
    schema.write_bytes(tables.schema_to_parquet(catalog.schema(BANDS)))
    arguments = CollectionArguments(
        output_path=tmp_path / "theirs", output_artifact_name="survey", progress_bar=False
    )
    arguments.catalog(
        input_file_list=[tmp_path / "rows.parquet"],
        file_reader=ParquetPyarrowReader(),
        ra_column="ra",
        dec_column="dec",
        sort_columns="source_id",
        use_schema_file=str(schema),
        pixel_threshold=CONFIG.rows_per_partition,
    )
    arguments.add_margin(margin_threshold=CONFIG.margin_arcsec, is_default=True)
    with Client(processes=False, n_workers=1, dashboard_address=None) as client:
        pipeline_with_client(arguments, client)
    ours, theirs = (read_partitions(root) for root in (exported.path, tmp_path / "theirs/survey"))
    assert ours.keys() == theirs.keys()
    assert sum("arcmin" in name for name in ours) > 8
    for name, table in ours.items():
        order = [("_healpix_29", "ascending"), ("source_id", "ascending")]
        assert table.equals(theirs[name].sort_by(order)), name
    for name in ("skymap.fits", "point_map.fits"):
        paths = (Path(root, "survey", name) for root in (exported.path, tmp_path / "theirs/survey"))
        first, second = (path.read_bytes() for path in paths)
        assert first == second
    infos = [hats.read_hats(p).main_catalog.catalog_info.model_dump()
             for p in (exported.path, tmp_path / "theirs/survey")]  # fmt: skip
    changing = {"hats_builder", "hats_creation_date", "hats_estsize"}
    same = [{k: v for k, v in info.items() if k not in changing} for info in infos]
    assert {k: same[0].get(k) for k in same[1]} == same[1]


def read_partitions(root: str | Path) -> dict[str, pa.Table]:
    files = sorted(Path(root).glob("**/Npix*.parquet"))
    return {str(path.relative_to(root)): pq.ParquetFile(path).read() for path in files}


def test_parts_are_exported_as_one(out: str, exported: Exported, tmp_path: Path) -> None:
    """Cells of one run in two outputs, by a pattern: the files of the whole."""
    in_two_parts(out, tmp_path / "outs", lambda tile, cell: tile.endswith("0"))
    target = str(tmp_path / "survey")
    done = export_hats(str(tmp_path / "outs" / "*"), target, CONFIG, workers=1, progress=False)
    assert (done.n_rows, done.n_margin_rows) == (exported.n_rows, exported.n_margin_rows)
    assert partitions(target) == partitions(exported.path)
    with pytest.raises(ConfigError, match="both have cell c0 of t%,0"):
        export_hats([out, str(tmp_path / "outs" / "part1")], f"{target}2", CONFIG)
    with pytest.raises(ConfigError, match=r"nor a pattern that matches a folder with a run\.json"):
        export_hats(str(tmp_path / "no*"), f"{target}2", CONFIG)


def test_units_and_descriptions_are_kept(exported: Exported) -> None:
    described = {column.name: column for column in catalog.columns(BANDS)}
    folders = list(Path(exported.path).glob("*/dataset"))
    assert len(folders) == 2  # catalog and margin
    for folder in folders:
        for path in [*folder.glob("**/Npix*.parquet"), folder / "_common_metadata"]:
            schema = pq.read_schema(path)
            assert set(described) < set(schema.names)
            for name, column in described.items():
                metadata = schema.field(name).metadata
                assert metadata[b"unit"].decode() == column.unit
                assert metadata[b"description"].decode() == column.description


def test_the_collection_is_valid_and_leaves_nothing_else(exported: Exported) -> None:
    assert hats.io.validation.is_valid_collection(exported.path)
    assert {path.name for path in Path(exported.path).parent.iterdir()} == {"survey"}
    properties = hats.read_hats(exported.path).main_catalog.catalog_info
    assert properties.total_rows == N_PRIMARY
    assert (properties.ra_column, properties.dec_column) == ("ra", "dec")
    assert properties.extra_dict()["hats_cols_survey_id"] == "source_id"


def test_all_rows_when_asked_for(out: str, tmp_path: Path) -> None:
    done = export_hats(
        out, str(tmp_path / "all"), HatsConfig(all_rows=True), workers=1, progress=False
    )
    assert (done.n_rows, done.n_partitions) == (N_CELLS * PER_CELL, 1)


def test_an_export_that_stopped_goes_on(out: str, exported: Exported, tmp_path: Path) -> None:
    copy, target = tmp_path / "out", str(tmp_path / "hats" / "survey")
    shutil.copytree(out, copy)
    shard = sorted(copy.glob("catalog/*/*.parquet"))[3]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-40])
    with pytest.raises(ConfigError, match="use --resume to continue") as stopped:
        export_hats(str(copy), target, CONFIG, workers=1, progress=False)
    assert str(shard) in str(stopped.value)

    shard.write_bytes(whole)
    with pytest.raises(ConfigError, match="--resume to continue or --overwrite"):
        export_hats(str(copy), target, CONFIG, workers=1, progress=False)
    other = replace(CONFIG, all_rows=True)
    with pytest.raises(ConfigError, match="with other options"):
        export_hats(str(copy), target, other, workers=1, resume=True, progress=False)
    # Of what was written nothing is done again: it died between two partitions.
    kept = Path(target, "survey/dataset/Norder=4/Dir=0/Npix=1709.parquet")
    for name in ("survey", "survey_1arcmin"):
        folder = f"{name}/dataset/Norder=4"
        shutil.copytree(Path(exported.path, folder), Path(target, folder))
    stamp = kept.stat().st_mtime_ns
    done = export_hats(str(copy), target, CONFIG, workers=1, resume=True, progress=False)
    assert kept.stat().st_mtime_ns == stamp
    assert (done.n_rows, done.n_margin_rows) == (N_PRIMARY, exported.n_margin_rows)
    assert partitions(target) == partitions(exported.path)

    # What is finished is not begun again by accident, and is replaced when asked for.
    with pytest.raises(ConfigError, match="is not empty and holds no unfinished"):
        export_hats(str(copy), target, CONFIG, workers=1, resume=True, progress=False)
    again = export_hats(str(copy), target, other, workers=1, overwrite=True, progress=False)
    assert again.n_rows == N_CELLS * PER_CELL


def partitions(target: str) -> dict[str, bytes]:
    files = Path(target).glob("**/Npix*.parquet")
    return {str(path.relative_to(target)): path.read_bytes() for path in files}


def test_from_s3_to_s3(s3_server: S3Server) -> None:  # noqa: F811
    root, n = f"s3://{s3_server.bucket}", 4 * PER_CELL * 9 // 10
    write_catalog(f"{root}/out", n_tiles=1)
    target = f"{root}/hats/survey"
    done = export_hats(f"{root}/out", target, CONFIG, workers=1, progress=False)
    opened = lsdb.open_catalog(UPath(target, anon=False))
    assert len(opened) == done.n_rows == n
    assert done.n_partitions == len(opened.get_healpix_pixels()) > 1


@pytest.mark.parametrize("place", ["survey/notes.txt", "survey/survey/dataset/mine.parquet"])
def test_overwrite_refuses_what_is_not_the_exports(
    out: str, exported: Exported, tmp_path: Path, place: str
) -> None:
    shutil.copytree(exported.path, tmp_path / "survey")
    mine = tmp_path / place
    mine.write_text("mine")
    before = storage.list_stamps(str(tmp_path))
    with pytest.raises(
        ConfigError, match=f"not an export's: {mine.relative_to(tmp_path / 'survey')}"
    ):
        export_hats(out, str(tmp_path / "survey"), CONFIG, workers=1, overwrite=True)
    assert storage.list_stamps(str(tmp_path)) == before


def test_a_folder_without_the_mark_of_an_export_is_left_alone(out: str, tmp_path: Path) -> None:
    for name in ("thesis/chapter1.tex", "scratch/data.fits"):
        storage.write_bytes(str(tmp_path / name), b"mine")
    target = str(tmp_path / "thesis")
    with pytest.raises(ConfigError, match=r"not an export's: chapter1\.tex"):
        export_hats(out, target, CONFIG, workers=1, overwrite=True)
    # Of a run's output neither.
    with pytest.raises(ConfigError, match="not an export's: catalog/"):
        export_hats(out, out, CONFIG, workers=1, overwrite=True)
    assert storage.exists(f"{out}/run.json")
    with pytest.raises(ConfigError, match="treat \\* \\? \\[ and \\] as a pattern"):
        export_hats(out, str(tmp_path / "t*" / "hats"), CONFIG, workers=1, overwrite=True)
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "mine"


def test_a_missing_package_is_named(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hats", None)
    with pytest.raises(ConfigError, match=r"pip install 'raydeblend\[hats\]'"):
        export_hats(out, str(tmp_path / "hats"))


def test_what_cannot_be_exported_is_refused(out: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no catalog"):
        export_hats(str(tmp_path), str(tmp_path / "hats"))
    with pytest.raises(ConfigError, match="letters, digits"):
        export_hats(out, str(tmp_path / "my hats"))
    with pytest.raises(ConfigError, match="are mutually exclusive"):
        export_hats(out, str(tmp_path / "hats"), resume=True, overwrite=True)
    with pytest.raises(ConfigError, match="above 0 and at most 3600 arcsec"):
        HatsConfig(margin_arcsec=0)
    empty = str(tmp_path / "empty")
    write_catalog(empty, n_tiles=0)
    with pytest.raises(ConfigError, match="has no source to export"):
        export_hats(empty, str(tmp_path / "hats"))
    assert not (tmp_path / "hats").exists()
