import json
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import survey_sky as sky
from in_process import catalogs_in_process
from s3 import s3_server  # noqa: F401

from raydeblend import storage
from raydeblend.catalog import read_catalog
from raydeblend.config import IMAGE_PATTERN, PSF_PATTERN, CatalogConfig
from raydeblend.errors import ConfigError
from raydeblend.fits import TileFailure, inputs
from raydeblend.fits.headers import TileFiles, read_headers
from raydeblend.pipeline import inputs as pipeline_inputs
from raydeblend.pipeline.execution import Execution
from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.preparation import RunRequest
from raydeblend.pipeline.summary import RunSummary
from raydeblend.pipeline.survey import run_catalog
from raydeblend.pipeline.verify import verify_catalog
from raydeblend.tile import TileHeader

CONFIG = CatalogConfig(
    bands=sky.BANDS, deblender="sep", photometry="mixture", cell_size=220, border=60
)
ROOT = Path(__file__).parents[2]
HSC = ROOT.parent / "shared" / "data" / "hsc" / "calexp_fields"


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    sky.write_tile(folder, "whole")
    return str(folder)


@pytest.fixture(scope="module")
def finished(tiles, tmp_path_factory, ray_local):
    out = str(tmp_path_factory.mktemp("run") / "out")
    return out, run_catalog(tiles, out, CONFIG, progress=False)


def test_headers_of_many_tiles_are_read_by_tasks_of_the_same_session(tiles, monkeypatch, ray_local):
    stamps = storage.list_stamps(tiles)
    files = inputs.match_patterns(tiles, sky.BANDS, IMAGE_PATTERN, PSF_PATTERN, stamps)
    many = [TileFiles(f"t{i}", files["whole"]) for i in range(3)] + [TileFiles("none", {})]
    connected = []
    monkeypatch.setattr(pipeline_inputs, "FEW_TILES", 4)
    monkeypatch.setattr(pipeline_inputs, "TILES_PER_TASK", 3)
    found = pipeline_inputs._read_headers(many, sky.BANDS, None, lambda: connected.append(1))
    assert connected == [1]
    assert found == read_headers(many, sky.BANDS, None)
    assert [type(each) for each in found] == [TileHeader] * 3 + [TileFailure]
    pipeline_inputs._read_headers(many[:3], sky.BANDS, None, lambda: connected.append(2))
    assert connected == [1]


def matched(table, name="x"):
    """Distance of each true galaxy to its nearest source, and that source's row."""
    xy = np.column_stack([table["x"], table["y"]])
    distance = np.hypot(*(sky.galaxies()[:, None, :2] - xy).T).T
    return distance.min(axis=1), distance.argmin(axis=1)


def test_the_catalog_holds_the_sky(finished):
    out, summary = finished
    table = read_catalog(out)
    assert (summary.n_cells, summary.n_failed) == (4, 0)
    assert summary.n_sources == table.num_rows
    assert verify_catalog(out) == []
    distance, row = matched(table)
    assert (distance < 3).mean() > 0.9
    # One count at zero point 27 is 57.544 nJy.
    flux = np.array(table["flux_i"].to_numpy())[row] / 57.544
    ratio = flux / sky.galaxies()[:, 2]
    assert np.nanmedian(ratio[distance < 1]) == pytest.approx(1, abs=0.1)
    color = np.array(table["flux_g"].to_numpy())[row] / 57.544 / flux
    assert np.nanmedian(color) == pytest.approx(0.6, abs=0.03)


def test_ledger_and_run_say_what_was_done(finished):
    out, _ = finished
    entries = read_entries(out)
    assert {entry.status for entry in entries} == {"done"}
    assert set(entries[0].seconds) == {"detect", "deblend", "measure", "write"}
    assert min(entry.peak_memory_mb for entry in entries) > 10
    run = json.loads(storage.read_bytes(storage.join(out, "run.json")))
    assert run["config"]["deblender"] == "sep"
    assert run["config"]["bands"] == ["g", "r", "i"]
    assert run["plan"]["cells"] == 4
    assert {"numpy", "ray", "sep"} <= set(run["versions"])


def test_overlapping_tiles_own_each_source_once(finished, tmp_path):
    tiles, out = tmp_path / "tiles", str(tmp_path / "out")
    for name, x0, y0 in (("a", 0, 0), ("b", 160, 0), ("c", 0, 160), ("d", 160, 160)):
        sky.write_tile(tiles, name, x0, y0, size=260)
    with catalogs_in_process():
        run_catalog(str(tiles), out, replace(CONFIG, cell_size=300), progress=False)
    assert verify_catalog(out) == []
    table, single = read_catalog(out), read_catalog(finished[0])
    primary = table.filter(table["is_primary"])
    assert primary.num_rows < table.num_rows
    assert primary.num_rows == single.num_rows
    for name in ("ra", "dec"):
        ours, theirs = (np.sort(t[name].to_numpy()) for t in (primary, single))
        np.testing.assert_allclose(ours, theirs, atol=0.1 / 3600)


@dataclass(frozen=True)
class Healed:
    """A survey of which some tiles were bad, run, mended, and resumed.

    Attributes
    ----------
    broken, healed
        Summaries of the two runs.
    first, second
        Rows after each.
    reasons
        Why which tile failed, by the first ledger.
    problems
        Numbers of problems that were found after each run.
    untouched
        Shards that the second run had no reason to write, and of these those that it left alone.
    """

    broken: RunSummary
    healed: RunSummary
    first: pa.Table
    second: pa.Table
    reasons: dict[str, str]
    problems: tuple[int, int]
    untouched: tuple[set[str], set[str]]


@pytest.fixture(scope="module")
def mended(tmp_path_factory, ray_local):
    """Four tiles apart, and two of which one lies upon the other."""
    folder = tmp_path_factory.mktemp("mended")
    tiles, out = folder / "tiles", str(folder / "out")
    corners = {"good": (0, 0), "nowcs": (300, 0), "dark": (0, 300), "partial": (300, 300)}
    upon = {"upper": (165, 165), "under": (165, 165)}
    for name, corner in corners.items():
        sky.write_tile(tiles, name, *corner, size=120)
    for name, corner in upon.items():
        sky.write_tile(tiles, name, *corner, size=90)
    for band in sky.BANDS:
        sky.cut_off_wcs(tiles / f"nowcs_{band}.fits")
        sky.blank(tiles / f"dark_{band}.fits")
        sky.blank(tiles / f"under_{band}.fits")
    (tiles / "partial_g.fits").unlink()
    config = replace(CONFIG, cell_size=120)
    broken = run_catalog(str(tiles), out, config, progress=False)
    assert {e.key for e in read_entries(out) if not e.done} == {e.key for e in broken.failures}
    reasons = {entry.tile: entry.reason for entry in broken.failures}
    first, found = read_catalog(out), len(verify_catalog(out))

    written = {p: os.stat(p).st_mtime_ns for p in storage.list_files(broken.catalog)}
    for name in ("dark", "nowcs"):
        sky.write_tile(tiles, name, *corners[name], size=120)
    sky.write_tile(tiles, "under", *upon["under"], size=90)
    healed = run_catalog(str(tiles), out, config, RunRequest(resume=True), progress=False)
    alone = {path for path in written if "=upper" not in path}
    left = {path for path in alone if os.stat(path).st_mtime_ns == written[path]}
    return Healed(
        broken, healed, first, read_catalog(out), reasons, (found, len(verify_catalog(out))),
        (alone, left),
    )  # fmt: skip


def of_tiles(table, *names):
    return table.filter(np.isin(table["tile"].to_pylist(), names))


def test_bad_tiles_are_in_the_ledger_and_the_others_complete(mended):
    assert set(mended.reasons) == {"nowcs", "dark", "under"}
    assert "WCS" in mended.reasons["nowcs"]
    assert "no band has usable pixels" in mended.reasons["dark"]
    assert mended.problems[0] == 3
    assert set(mended.first["tile"].to_pylist()) == {"good", "partial", "upper"}
    partial = of_tiles(mended.first, "partial")
    assert partial["flux_g"].null_count == partial.num_rows
    assert partial["flux_i"].null_count < partial.num_rows


def test_of_a_mended_survey_only_what_failed_runs_again(mended):
    assert (mended.healed.n_cells, mended.healed.n_failed) == (6, 0)
    alone, left = mended.untouched
    assert left == alone
    assert len(alone) == 2
    assert mended.problems[1] == 0
    assert mended.healed.n_sources == mended.second.num_rows


def test_a_healed_tile_takes_its_places_back_from_those_that_it_overlaps(mended):
    """By its name, since both have the same center."""
    alone = of_tiles(mended.first, "upper")
    assert alone.num_rows
    assert all(alone["is_primary"].to_pylist())
    both = of_tiles(mended.second, "upper", "under")
    assert both["is_primary"].to_pylist() == [t == "under" for t in both["tile"].to_pylist()]


def test_resume_does_what_the_ledger_lacks_and_gives_the_same_bytes(finished, tiles, caplog):
    out, summary = finished
    shards = {p: Path(p).read_bytes() for p in storage.list_files(summary.catalog)}
    kept, *lost = shards
    time = os.stat(kept).st_mtime_ns
    for path in lost:
        Path(path).unlink()
    for path in storage.list_files(summary.ledger)[1:]:
        Path(path).unlink()
    resumed = run_catalog(tiles, out, CONFIG, RunRequest(resume=True), progress=False)
    assert (resumed.n_cells, resumed.n_sources) == (summary.n_cells, summary.n_sources)
    assert {p: Path(p).read_bytes() for p in storage.list_files(summary.catalog)} == shards
    assert os.stat(kept).st_mtime_ns == time
    summarized = Path(out, "summary.json").stat().st_mtime_ns
    with caplog.at_level(logging.INFO, logger="raydeblend"):
        again = run_catalog(tiles, out, CONFIG, RunRequest(resume=True), progress=False)
    assert again.n_sources == summary.n_sources
    assert Path(out, "summary.json").stat().st_mtime_ns == summarized
    assert "all done, nothing to do" in caplog.text


def test_what_cannot_be_used_is_refused_before_any_work(finished, tiles, tmp_path):
    out, _ = finished
    with pytest.raises(ConfigError, match="--resume"):
        run_catalog(tiles, out, CONFIG)
    with pytest.raises(ConfigError, match=r"border \(60 then, 61 now\)"):
        run_catalog(tiles, out, replace(CONFIG, border=61), RunRequest(resume=True))
    with pytest.raises(ConfigError, match="nowhere"):
        run_catalog(str(tmp_path / "nowhere"), str(tmp_path / "out"), CONFIG)
    with pytest.raises(ConfigError, match="matches none"):
        run_catalog(tiles, str(tmp_path / "out"), replace(CONFIG, image_pattern="{band}-{tile}"))
    with pytest.raises(ConfigError, match=r"the cluster has 0 GPU\(s\)"):
        run_catalog(tiles, str(tmp_path / "out"), CONFIG, execution=Execution(gpus=1))
    assert not (tmp_path / "out").exists()


def test_from_s3_to_s3(finished, s3_server):  # noqa: F811
    """Through workers: `test_deaths_slow`, of a server in trouble."""
    source, out = f"s3://{s3_server.bucket}/sky", f"s3://{s3_server.bucket}/runs/1"
    sky.write_tile(source, "whole")
    with catalogs_in_process():
        summary = run_catalog(source, out, CONFIG, progress=False)
    local, remote = read_catalog(finished[0]), read_catalog(out)
    assert summary.n_sources == remote.num_rows
    assert remote.equals(local)
    assert verify_catalog(out) == []


@pytest.mark.skipif(not HSC.exists(), reason="needs ../shared/data/hsc")
def test_a_real_hsc_field(tmp_path):
    config = CatalogConfig(
        bands=sky.BANDS,
        deblender="sep",
        image_pattern="{tile}_300x300_{band}.fits",
        psf_pattern="{tile}_{band}_psf.fits",
    )
    out = str(tmp_path / "out")
    with catalogs_in_process():
        summary = run_catalog(str(HSC), out, config, progress=False)
    assert (summary.n_cells, summary.n_failed) == (1, 0)
    table = read_catalog(out)
    # 50" x 50" of HSC's Ultra-Deep field hold about 100 to 300 sources at 5 sigma.
    assert 60 < table.num_rows < 400
    ra, dec = table["ra"].to_numpy(), table["dec"].to_numpy()
    assert np.hypot((ra - 149.2558) * np.cos(np.radians(2.5652)), dec - 2.5652).max() < 40 / 3600
