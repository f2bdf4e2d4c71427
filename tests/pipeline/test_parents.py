"""Every detected peak is a row of the catalog or counted with its reason."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from in_process import catalogs_in_process

from benchmarks.crowded_cell import crowd
from benchmarks.gaussian_sky import BANDS, write_tile
from raydeblend import parents, storage
from raydeblend.catalog import read_catalog, to_bytes
from raydeblend.config import CatalogConfig
from raydeblend.detect.background import without_background
from raydeblend.detect.footprints import DetectConfig, find_blends
from raydeblend.detect.ids import pixels
from raydeblend.detect.noise_correlation import with_noise
from raydeblend.detect.tile_noise import tile_noise
from raydeblend.errors import ConfigError
from raydeblend.fits import find_tiles, read_tile
from raydeblend.parents import Unpublished
from raydeblend.pipeline.accounts import Account, Outcome, Residual, account_for, nearest_pairs
from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.parents import count_peaks
from raydeblend.pipeline.preparation import RunRequest
from raydeblend.pipeline.shards import parents_path
from raydeblend.pipeline.survey import run_catalog
from raydeblend.pipeline.verify import verify_catalog
from raydeblend.survey import get_survey
from raydeblend.tile import Blend, Box

SIZE, N = 128, 110
DEBLENDERS = ("sep", "rdn", "joint")


def config(deblender: str, cell_size: int = SIZE, **options: object) -> CatalogConfig:
    return CatalogConfig(
        BANDS, survey="HSC", deblender=deblender, photometry="auto", cell_size=cell_size, **options
    )


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tile so crowded that most of its sources share a footprint."""
    folder = str(tmp_path_factory.mktemp("tiles"))
    write_tile(folder, "crowd", crowd(N, SIZE))
    return folder


@pytest.fixture(scope="module")
def outs(tiles: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A catalog of the tile by each deblender."""
    root = tmp_path_factory.mktemp("out")
    with catalogs_in_process():
        for name in DEBLENDERS:
            run_catalog(tiles, str(root / name), config(name), progress=False)
    return {name: str(root / name) for name in DEBLENDERS}


def detected(tiles: str) -> list[Blend]:
    """The footprints of the tile, by the detection alone."""
    (header,), _ = find_tiles(tiles, BANDS)
    survey = get_survey("HSC")
    tile = with_noise(read_tile(header, header.box, survey), tile_noise(header, survey, None))
    return find_blends(without_background(tile, "auto"), DetectConfig())


@pytest.mark.parametrize("name", DEBLENDERS)
def test_every_detected_peak_is_a_row_or_counted(
    tiles: str, outs: dict[str, str], name: str
) -> None:
    out = outs[name]
    assert verify_catalog(out) == []
    table, rows = parents.read_parents(out), read_catalog(out)
    blends = detected(tiles)
    told = dict(zip(table["parent_id"].to_pylist(), table["n_peaks"].to_pylist(), strict=True))
    assert told == {blend.parent_id: len(blend.xy) for blend in blends}
    assert max(told.values()) > 30
    per_parent = Counter(rows["parent_id"].to_pylist())
    for row in table.to_pylist():
        reasons = sum(row[f"n_{reason}"] for reason in Unpublished)
        assert row["n_peaks"] == per_parent[row["parent_id"]] - row["n_added"] + reasons
        assert row["n_sources"] == row["n_blended"] == per_parent[row["parent_id"]]
    areas = {blend.parent_id: int(blend.footprint.sum()) for blend in blends}
    assert areas == dict(
        zip(table["parent_id"].to_pylist(), table["area"].to_pylist(), strict=True)
    )
    (entry,) = read_entries(out)
    assert entry.peaks == sum(told.values())
    added = sum(table["n_added"].to_pylist())
    assert entry.peaks == entry.sources - added + sum(entry.unpublished.values())
    assert table["work"].null_count == (0 if name == "joint" else table.num_rows)


def test_models_that_fit_have_a_chi2_of_one(outs: dict[str, str]) -> None:
    table = parents.read_parents(outs["joint"])
    chi2 = np.array(table["chi2"].to_numpy(zero_copy_only=False), dtype=float)
    weight = table["area"].to_numpy()
    assert 0.8 < np.average(chi2, weights=weight) < 1.2


def test_the_same_bytes_however_the_tile_is_cut_into_runs(
    tiles: str, outs: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    again = str(tmp_path_factory.mktemp("again") / "out")
    with catalogs_in_process():
        run_catalog(tiles, again, config("sep"), progress=False)
    (entry,) = read_entries(again)
    paths = [parents_path(out, *entry.key) for out in (again, outs["sep"])]
    first, second = (storage.read_bytes(path) for path in paths)
    assert first == second


def test_cells_count_each_peak_once(tiles: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = str(tmp_path_factory.mktemp("cut") / "out")
    with catalogs_in_process():
        run_catalog(tiles, out, config("sep", cell_size=64, border=64), progress=False)
    assert verify_catalog(out) == []
    table, blends = parents.read_parents(out), detected(tiles)
    assert table.num_rows > len(blends)
    assert sum(table["n_peaks"].to_pylist()) == sum(len(blend.xy) for blend in blends)
    assert sum(table["n_sources"].to_pylist()) == read_catalog(out).num_rows
    owners = table.filter(table["is_owner"])["parent_id"].to_pylist()
    assert sorted(owners) == sorted(blend.parent_id for blend in blends)
    for row in table.to_pylist():
        y, x = pixels([row["parent_id"]])
        inside = Box(*_edges(row["cell"])).contains(float(y[0]), float(x[0]))
        assert row["is_owner"] == inside


def _edges(cell: str) -> tuple[int, int, int, int]:
    rows, columns = (part[1:].split("-") for part in cell.split("_"))
    return int(rows[0]), int(columns[0]), int(rows[1]), int(columns[1])


def test_verify_finds_a_peak_without_a_reason_and_a_table_that_is_gone(
    tiles: str, outs: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = str(tmp_path_factory.mktemp("copy") / "out")
    for path in storage.list_files(outs["sep"]):
        storage.write_bytes(path.replace(outs["sep"], out), storage.read_bytes(path))
    (entry,) = read_entries(out)
    path = parents_path(out, *entry.key)
    table = parents.read_parents(out)
    i = table.column_names.index("n_evidence")
    wrong = table["n_evidence"].to_pylist()
    wrong[0] += 1
    damaged = table.set_column(i, table.schema.field(i), pa.array(wrong, pa.int32()))
    storage.write_bytes(path, to_bytes(damaged))
    assert any("leaves -1 peaks of footprint" in text for text in verify_catalog(out))
    storage.remove_files([path])
    missing = f"{out}/parents has no file of cell {entry.cell} of tile crowd"
    assert verify_catalog(out) == [missing]
    with catalogs_in_process():
        run_catalog(tiles, out, config("sep"), RunRequest(resume=True), progress=False)
    assert verify_catalog(out) == []


FOOTPRINT = np.zeros((40, 40), dtype=bool)
FOOTPRINT[5:35, 5:35] = True


def blend(xy: list[list[float]]) -> Blend:
    image = np.zeros((2, 40, 40), np.float32)
    unusable = np.zeros(image.shape, dtype=bool)
    unusable[:, 28:33, 28:33] = True
    return Blend(1, Box(100, 200, 140, 240), image, image + 1, unusable, FOOTPRINT, np.float32(xy))


def outcome(xy: list[list[float]], parts: list[list[float]] | None = None, **said: str) -> Outcome:
    places = np.array(parts or [], dtype=float).reshape(-1, 2)
    return Outcome(np.array(xy, dtype=float), places, "joint", "high", **said)


def account(peaks: list[list[float]], made: Outcome) -> Account:
    return account_for(blend(peaks), made)


def test_each_reason_is_told_by_what_is_near_the_peak() -> None:
    peaks = [[10, 10], [12, 10], [20, 20], [10, 30], [30, 30]]
    made = outcome([[210.5, 110.2]], parts=[[220.0, 119.0]])
    assert account(peaks, made).reasons == ("", "merged", "structure", "evidence", "no_data")
    limited = outcome([[210.5, 110.2]], shortfall="limited")
    assert account(peaks, limited).reasons == ("", "merged", "limited", "limited", "no_data")
    failed = outcome([[210.5, 110.2]], shortfall="failed")
    assert account(peaks, failed).reasons == ("", "failed", "failed", "failed", "no_data")


def test_a_source_across_the_edge_counts_where_its_row_is() -> None:
    own = account([[10, 10], [20, 20]], outcome([[211.0, 110.0], [220.0, 120.0]]))
    left, right = Box(0, 0, 300, 211), Box(0, 211, 300, 400)
    first, second = count_peaks(own, left), count_peaks(own, right)
    assert (first["n_peaks"], first["n_sources"], first["n_other_cell"]) == (1, 0, 1)
    assert (second["n_peaks"], second["n_sources"], second["n_added"]) == (1, 2, 1)
    assert count_peaks(own, Box(0, 0, 50, 50)) == {}


def test_pairs_are_one_to_one_and_the_nearest_first() -> None:
    peaks = np.array([[0.0, 0], [2, 0], [50, 50]])
    sources = np.array([[1.2, 0.0], [-2.0, 0.0], [30.0, 30.0]])
    assert nearest_pairs(peaks, sources).tolist() == [1, 0, -1]
    assert nearest_pairs(peaks, np.empty((0, 2))).tolist() == [-1, -1, -1]


def test_chi2_is_that_of_the_noise_of_pixels() -> None:
    rng = np.random.default_rng(3)
    footprint = np.ones((60, 60), dtype=bool)
    noise = rng.normal(0, 2, (2, 60, 60)).astype(np.float32)
    variance = np.full(noise.shape, 16, np.float32)
    unusable = np.zeros(noise.shape, dtype=bool)
    unusable[1] = True
    noise[1] = 1e6
    one = Blend(1, Box(0, 0, 60, 60), noise, variance, unusable, footprint, np.zeros((1, 2)))
    found = Residual.of(one, noise)
    assert found.pixels.tolist() == [3600, 0]
    # The variance holds a noise twice that of pixels.
    assert found.reduced((2.0, np.nan)) == pytest.approx(1, abs=0.1)
    assert found.reduced(()) == pytest.approx(0.25, abs=0.025)
    nothing = Residual.of(Blend(**{**vars(one), "unusable": unusable | True}), noise)
    assert np.isnan(nothing.reduced(()))


def test_an_output_without_footprints_is_said_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(ConfigError, match="holds no table of footprints"):
        parents.read_parents(str(tmp_path_factory.mktemp("none")))
