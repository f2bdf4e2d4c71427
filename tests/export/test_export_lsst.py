"""The catalog under the Rubin Observatory's names, checked by numbers of our own tables."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from astropy import units as u
from astropy.table import Table
from export_catalog import BANDS, PER_CELL, write_catalog

from raydeblend import catalog, parents, storage
from raydeblend.cli.main import main
from raydeblend.errors import ConfigError
from raydeblend.export.lsst import export_lsst
from raydeblend.pipeline.shards import FOLDERS

N_CELLS = 2


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two cells of sources, every third footprint with three; the last one lies in both cells."""
    out = str(tmp_path_factory.mktemp("catalog"))
    write_catalog(out, n_tiles=1, n_cells=N_CELLS)
    assert parents.FOLDER in FOLDERS
    ids = catalog.read_catalog(out)["parent_id"].to_numpy()
    for cell, own in enumerate(np.split(ids, N_CELLS)):
        rows = [_footprint(int(i), cell, own=True) for i in own]
        if cell:
            rows.append(_footprint(int(ids[0]), cell, own=False))
        path = storage.join(out, parents.FOLDER, f"{cell}.parquet")
        storage.write_bytes(path, catalog.to_bytes(parents.to_table(rows)))
    return out


def _footprint(identifier: int, cell: int, own: bool) -> dict[str, object]:
    row: dict[str, object] = {column.name: 0 for column in parents.COLUMNS}
    row |= {name: "" for name in ("tile", "cell", "deblender", "quality", "shortfall")}
    row |= {"parent_id": identifier, "is_owner": own, "is_primary": True}
    row |= {"n_peaks": 2 if own else 5, "n_sources": 1, "n_blended": 1}
    if identifier % 10 == 4:
        row["shortfall"] = "failed"
    return row


def test_rubins_names_carry_our_numbers(out: str, tmp_path: Path) -> None:
    done = export_lsst(out, str(tmp_path))
    rows = catalog.read_catalog(out).to_pandas()
    first = rows["parent_id"].iloc[0]
    rows = rows[rows["is_primary"]].reset_index(drop=True)
    objects, whole = (pd.read_parquet(tmp_path / f"{n}.parquet") for n in ("Object", "Parent"))
    assert (done.n_objects, done.n_parents) == (len(rows), len(whole))
    assert objects["objectId"].tolist() == rows["source_id"].tolist()
    assert set(objects["parentObjectId"]) <= set(whole["objectId"])
    np.testing.assert_array_equal(objects["coord_ra"], rows["ra"])
    # Errors are in degrees there, in arcsec here.
    np.testing.assert_allclose(objects["coord_raErr"] * 3600, rows["ra_err"], rtol=1e-5)
    np.testing.assert_allclose(objects["coord_ra_dec_Cov"] * 3600**2, rows["ra_dec_cov"], rtol=1e-5)
    for band in BANDS:
        np.testing.assert_array_equal(objects[f"{band}_psfFlux"], rows[f"flux_psf_{band}"])
        np.testing.assert_array_equal(objects[f"{band}_psfFluxErr"], rows[f"flux_psf_err_{band}"])
        np.testing.assert_array_equal(objects[f"flux_{band}"], rows[f"flux_{band}"])
    assert not [name for name in objects if "cModel" in name or "kron" in name.lower()]
    assert objects["detect_isIsolated"].all()
    assert not objects["detect_fromBlend"].any()
    # Of the footprint in both cells the peaks are added up.
    counted = whole.set_index("objectId")["deblend_nPeaks"]
    assert counted[first] == 7
    assert set(counted.drop(first)) == {2}
    assert (objects["deblend_parentNPeaks"] == counted[objects["parentObjectId"]].values).all()
    failed = whole["objectId"] % 10 == 4
    assert (whole["deblend_failed"] == failed).all()
    assert 0 < failed.sum() < len(whole)


def test_the_schema_describes_every_column(out: str, tmp_path: Path) -> None:
    export_lsst(out, str(tmp_path))
    schema = yaml.safe_load((tmp_path / "schema.yaml").read_text())
    names = [table["name"] for table in schema["tables"]]
    assert names == ["Object", "Parent"]
    for table in schema["tables"]:
        fields = pa.parquet.read_schema(tmp_path / f"{table['name']}.parquet")
        described = {column["name"]: column for column in table["columns"]}
        assert list(described) == fields.names
        assert table["primaryKey"] == f"#{table['name']}.objectId"
        assert all(column["description"] for column in table["columns"])
    objects = {column["name"]: column for column in schema["tables"][0]["columns"]}
    assert objects["coord_raErr"]["ivoa:unit"] == "deg"
    assert objects["coord_ra_dec_Cov"]["ivoa:unit"] == "deg2"
    assert objects["r50"]["ivoa:unit"] == "arcsec"
    assert objects["g_psfFlux"]["ivoa:ucd"] == "phot.flux.density;em.opt.B"


def test_astropy_reads_the_units_of_both_tables(out: str, tmp_path: Path) -> None:
    export_lsst(out, str(tmp_path))
    objects, footprints = (
        Table.read(tmp_path / f"{name}.parquet", format="parquet") for name in ("Object", "Parent")
    )
    assert (objects["coord_raErr"].unit, objects["i_psfFlux"].unit) == (u.deg, u.nJy)
    assert footprints["ra"].unit == u.deg
    assert footprints["deblend_nPeaks"].description


def test_felis_accepts_the_schema(out: str, tmp_path: Path) -> None:
    export_lsst(out, str(tmp_path))
    felis = str(Path(sys.executable).with_name("felis"))
    command = [felis, "validate", "--check-description", str(tmp_path / "schema.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_command_counts_and_replaces_nothing(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", "lsst", out, str(tmp_path / "dp"), "--all-rows"])
    assert not ended.value.code
    n = N_CELLS * PER_CELL
    assert capsys.readouterr().out == f"{n:,} objects, {n:,} parents: {tmp_path / 'dp'}\n"
    with pytest.raises(ConfigError, match=r"Object.parquet, Parent.parquet, schema.yaml already"):
        export_lsst(out, str(tmp_path / "dp"))


def test_a_catalog_without_footprints_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    early = str(tmp_path / "early")
    write_catalog(early, n_tiles=1, n_cells=1)
    with pytest.raises(ConfigError, match="no table of footprints"):
        export_lsst(early, str(tmp_path / "dp"))
    assert not list((tmp_path / "dp").glob("*"))
