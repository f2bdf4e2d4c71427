"""Runs that do only some cells of a survey, and the run that completes them."""

import json
from dataclasses import replace

import deaths
import numpy as np
import pytest
import survey_sky as sky
from astropy.io import fits
from astropy.wcs import WCS
from headers import make_header
from in_process import catalogs_in_process

from raydeblend import storage
from raydeblend.catalog import read_catalog
from raydeblend.cli.main import main
from raydeblend.config import CatalogConfig
from raydeblend.errors import ConfigError, TileError
from raydeblend.pipeline.cost import Cost, check_price
from raydeblend.pipeline.forecast import forecast_catalog
from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.plan import plan_survey
from raydeblend.pipeline.preparation import RunRequest
from raydeblend.pipeline.region import Region, cells_within, parse_region
from raydeblend.pipeline.selection import EVERYTHING, Selection
from raydeblend.pipeline.stages import stages_of
from raydeblend.pipeline.survey import run_catalog
from raydeblend.pipeline.verify import check_parts, verify_catalog

CONFIG = CatalogConfig(sky.BANDS, deblender="sep", photometry="mixture", cell_size=65, border=20)
CORNERS = {f"t{i}": (x, y) for i, (x, y) in enumerate(((150, 150), (240, 150), (150, 240)))}
CELL = "y00000-00065_x00065-00130"
N_CELLS = 12
COMMANDS = ["--bands", "g,r,i", "--deblender", "sep", "--photometry", "mixture"]


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    """Three tiles that overlap by 40 pixels, of four cells each."""
    folder = tmp_path_factory.mktemp("tiles")
    for name, corner in CORNERS.items():
        sky.write_tile(folder, name, *corner, size=130)
    return str(folder)


def run(tiles, out, selection=EVERYTHING, stages=None, resume=False):
    request = RunRequest(resume=resume, selection=selection)
    with catalogs_in_process():
        return run_catalog(tiles, str(out), CONFIG, request, stages=stages, progress=False)


@pytest.fixture(scope="module")
def whole(tiles, tmp_path_factory):
    """The output of a run over everything at once."""
    out = str(tmp_path_factory.mktemp("whole") / "out")
    assert run(tiles, out).n_failed == 0
    return out


def broken(cells):
    """Stages of which the first fails some cells."""
    plain = stages_of(CONFIG)

    def detect(task):
        if (task.cell.tile.name, task.cell.name) in cells:
            raise TileError("no good")
        return plain.detect(task)

    return replace(plain, detect=detect)


def test_some_cells_then_the_rest_are_the_bytes_of_one_run(tiles, whole, tmp_path):
    out = tmp_path / "out"
    first = run(tiles, out, Selection(only=f"t1, t2/{CELL}"))
    assert (first.n_cells, first.n_left, first.n_failed) == (5, N_CELLS - 5, 0)
    done = {entry.key for entry in read_entries(str(out))}
    assert {tile for tile, _ in done} == {"t1", "t2"}
    assert ("t2", CELL) in done
    # What is primary is decided as if all were done: t1 shares its rim with t0.
    ours, all_rows = read_catalog(str(out)), read_catalog(whole)
    of_t1 = all_rows.filter(np.array(all_rows["tile"].to_pylist()) == "t1")
    assert ours.filter(np.array(ours["tile"].to_pylist()) == "t1").equals(of_t1)
    assert not all(of_t1["is_primary"].to_pylist())
    verdict = check_parts([str(out)]).runs[0].cells
    assert (verdict.done, verdict.failed, verdict.missing) == (5, 0, N_CELLS - 5)

    last = run(tiles, out, resume=True)
    assert (last.n_cells, last.n_left) == (N_CELLS, 0)
    assert verify_catalog(str(out)) == []
    assert deaths.shards(str(out)) == deaths.shards(whole)


def test_only_what_failed_is_done_again(tiles, whole, tmp_path, capsys):
    out = tmp_path / "out"
    bad = [("t0", CELL), ("t2", CELL)]
    some = Selection(only="t0,t2")
    assert run(tiles, out, some, broken(bad)).n_failed == 2
    with pytest.raises(SystemExit):
        main(["verify", str(out)])
    said = capsys.readouterr().out
    assert "6 cells done, 2 failed, 4 missing" in said
    assert said.rstrip().endswith("--resume --retry-failed")

    retry = Selection(retry_failed=True)
    forecast = forecast_catalog(tiles, str(out), CONFIG, RunRequest(resume=True, selection=retry))
    assert forecast.n_left == 2
    one = run(tiles, out, replace(retry, only="t2"), resume=True)
    # That of t0 is still failed, and counted.
    assert (one.n_cells, one.n_failed, one.n_left) == (8, 1, 5)
    assert [entry.key for entry in one.failures] == bad[:1]
    again = run(tiles, out, retry, resume=True)
    assert (again.n_cells, again.n_failed, again.n_left) == (8, 0, 4)
    nothing = run(tiles, out, retry, resume=True)
    assert (nothing.n_cells, nothing.n_failed, nothing.n_left) == (8, 0, 4)
    assert run(tiles, out, resume=True).n_cells == N_CELLS
    assert deaths.shards(str(out)) == deaths.shards(whole)


def test_a_tile_that_could_not_be_planned_is_tried_again(tiles, tmp_path):
    copy = tmp_path / "tiles"
    for name in ("t0", "t1"):
        sky.write_tile(copy, name, *CORNERS[name], size=130)
    path = copy / "t1_i.fits"
    content = path.read_bytes()
    path.write_bytes(b"no FITS")
    assert run(str(copy), tmp_path / "out").n_failed == 1
    path.write_bytes(content)
    again = run(str(copy), tmp_path / "out", Selection(retry_failed=True), resume=True)
    assert again.n_failed == 0
    assert {e.tile for e in read_entries(str(tmp_path / "out")) if e.done} >= {"t1"}


def test_a_region_is_the_cells_with_a_pixel_in_it(tiles):
    headers = [make_header(name, origin=at) for name, at in (("a", (0, 0)), ("b", (250, 0)))]
    plan = plan_survey(headers, 100, 10)
    rng = np.random.default_rng(3)
    center = to_sky_of(headers[0], rng.uniform(0, 200, 2))
    for radius in (1e-6, 0.002, 0.01):
        chosen = cells_within(plan, Region(*center, radius))
        assert chosen.tolist() == [reaches(plan, i, center, radius) for i in range(len(plan))]
        assert 0 < chosen.sum() < len(plan)
    with pytest.raises(ConfigError, match="no tile is in the region 10,-40,1; the nearest is "):
        cells_within(plan, Region(10, -40, 1))


def to_sky_of(header, xy):
    place = WCS(fits.Header.fromstring(header.wcs)).pixel_to_world(*xy).icrs
    return place.ra.deg, place.dec.deg


def reaches(plan, i, center, radius):
    """Whether a pixel of the cell, of a fine grid with its edges, is within a circle."""
    box, header = plan.box(i), plan.header(int(plan.tile[i]))
    y = np.linspace(box.y0 - 0.5, box.y1 - 0.5, 401)
    x = np.linspace(box.x0 - 0.5, box.x1 - 0.5, 401)
    xx, yy = (a.ravel() for a in np.meshgrid(x, y))
    ra, dec = (np.radians(a) for a in to_sky_of(header, (xx, yy)))
    ra0, dec0 = np.radians(center)
    half = np.sin((dec - dec0) / 2) ** 2 + np.cos(dec) * np.cos(dec0) * np.sin((ra - ra0) / 2) ** 2
    # The grid's steps are 0.25 pixels; the radius of a point must find the cell it is in.
    step = 0.25 * header.pixel_scale / 3600
    return bool(np.degrees(2 * np.arcsin(np.sqrt(half))).min() <= max(radius, step))


def test_units_of_a_radius():
    for radius in ("0.1", " 6arcmin", "360 arcsec", "1e-1deg"):
        region = parse_region(f"150.1, +2.2,{radius}")
        assert (region.ra, region.dec) == (150.1, 2.2)
        assert region.radius == pytest.approx(0.1, rel=1e-12)
    assert parse_region("-1.5,-0.3,2") == Region(-1.5, -0.3, 2)


@pytest.mark.parametrize(
    "text", ["150,2", "a,b,c", "150,2,6'", "150,2,0", "150,99,1", "150,2,nan", "150,2,1parsec", ""]
)
def test_what_is_no_region_is_refused(text):
    with pytest.raises(ConfigError, match="region"):
        parse_region(text)


@pytest.mark.parametrize(
    ("only", "said"),
    [
        ("t9", "no tile of this run is called 't9'; there are t0, t1, t2"),
        ("t0/y1", "tile t0 has no cell 'y1'; it has y0"),
        ("", "no tile of this run is called ''"),
    ],
)
def test_a_tile_or_cell_that_is_not_there_is_refused(tiles, tmp_path, only, said):
    with pytest.raises(ConfigError, match=said):
        run(tiles, tmp_path / "out", Selection(only=only))
    assert not storage.list_files(str(tmp_path / "out"))


def test_names_of_tiles_may_hold_commas_and_slashes():
    names = ("9813-4,4", "9813-4,5", "a/b")
    plan = plan_survey([make_header(name, origin=(0, 0)) for name in names], 1000, 0)
    (_, cell), *_ = plan.keys()
    for only, wanted in (
        (names[0], [0]),
        (f"{names[1]},{names[0]}", [0, 1]),
        (f"a/b/{cell},{names[0]}/{cell}", [0, 2]),
    ):
        assert np.flatnonzero(Selection(only=only).of(plan, ())).tolist() == wanted


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--retry-failed"], "--retry-failed requires --resume"),
        (["--region", "150,2"], "is not a region RA,DEC,RADIUS"),
        (["--price", "-1"], "--price must be"),
        (["--memory-per-cell", "0"], "--memory-per-cell must be a number of GiB above 0"),
    ],
)
def test_bad_options_are_refused_before_any_work(tiles, tmp_path, capsys, options, said):
    with pytest.raises(SystemExit) as ended:
        main(["catalog", tiles, str(tmp_path / "out"), *COMMANDS, *options])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_summary_has_what_it_cost(tiles, whole, tmp_path, capsys):
    out = tmp_path / "out"
    with catalogs_in_process():
        summary = run_catalog(
            tiles,
            str(out),
            CONFIG,
            RunRequest(selection=Selection(only="t0"), price=0.02),
            log_json=True,
        )
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line[0] == "{"]
    entries = read_entries(str(out))
    assert [(line["tile"], line["n"], line["of"]) for line in lines] == [
        ("t0", n, 4) for n in (1, 2, 3, 4)
    ]
    assert {line["cell"]: line["sources"] for line in lines} == {e.cell: e.sources for e in entries}

    found = json.loads((out / "summary.json").read_text())
    spent = sum(sum(entry.seconds.values()) for entry in entries)
    area = (130 * sky.SCALE / 3600) ** 2
    assert found["core_hours"] == pytest.approx(spent / 3600, abs=1e-6)
    assert found["square_degrees"] == pytest.approx(area, rel=1e-4)
    assert found["core_hours_per_deg2"] == pytest.approx(spent / 3600 / area, rel=1e-3)
    assert found["price_per_1000_deg2"] == pytest.approx(20 * spent / 3600 / area, rel=1e-3)
    tables = [p for kind in ("catalog", "parents") for p in (out / kind).glob("*/*.parquet")]
    assert len(tables) == 8
    assert found["bytes_written"] == sum(path.stat().st_size for path in tables)
    # At least the inner regions: three bands of an image, a mask and a variance of four bytes.
    assert found["bytes_read"] > 130**2 * 3 * 12
    assert found["left"] == summary.n_left == N_CELLS - 4


def test_nothing_done_has_no_rate():
    assert Cost().core_hours_per_deg2 is None
    assert Cost(price=1.0).to_dict()["price_per_1000_deg2"] is None
    with pytest.raises(ConfigError, match="price of a core-hour"):
        check_price(float("nan"))
