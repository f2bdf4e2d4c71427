"""Pictures of a finished catalog, and the numbers that they show."""

import io
import shutil
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from coadds import BANDS, NJY_PER_COUNT, SCALE, SKY, galaxies, pixels, sky_wcs, write_coadd
from in_process import catalogs_in_process
from scipy.spatial.distance import cdist

from raydeblend import catalog
from raydeblend.cli.main import main
from raydeblend.config import CatalogConfig
from raydeblend.draw.blend_figure import LONGEST, _lines
from raydeblend.draw.finished import find_source, open_finished
from raydeblend.draw.inspect import take_apart
from raydeblend.draw.map_figures import color_range, map_figures, outlines
from raydeblend.draw.maps import CellStatistics, _middle, cell_statistics, depth
from raydeblend.errors import ConfigError
from raydeblend.flags import Flag
from raydeblend.pipeline.entries import LedgerEntry, write_entry
from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.preparation import RunRequest
from raydeblend.pipeline.survey import run_catalog


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    streams = capsys.readouterr()
    return int(stopped.value.code or 0), streams.out, streams.err


def test_a_blend_is_taken_apart_as_it_was(out: str) -> None:
    table = catalog.read_catalog(out)
    # The closest pair.
    xy = np.column_stack([table["x"].to_numpy(), table["y"].to_numpy()])
    nearest = np.sort(cdist(xy, xy), axis=1)[:, 1]
    pair = int(np.argmin(np.where(table["n_blended"].to_numpy() == 2, nearest, np.inf)))
    finished = open_finished(out)
    seen = take_apart(finished, find_source(finished, str(table["source_id"][pair])))
    assert len(seen.rows) == len(seen.part.models) == 2
    place = seen.part.xy + np.array([seen.blend.box.x0, seen.blend.box.y0])
    rows = np.column_stack([seen.rows["x"].to_numpy(), seen.rows["y"].to_numpy()])
    # The rows have the fitted places, the models those of SExtractor; the two are 9 pixels apart.
    np.testing.assert_allclose(rows, place, atol=1.0)
    assert set(seen.rows["parent_id"].to_pylist()) == {table["parent_id"][pair].as_py()}
    # What is shown around it is the file's pixels in nJy, but for the sky and its slope.
    box = seen.view
    raw = pixels()[:, box.y0 : box.y1, box.x0 : box.x1] * NJY_PER_COUNT
    assert (np.std(raw - seen.around, axis=(1, 2)) < 0.15 * NJY_PER_COUNT).all()
    # Every true galaxy in view is a source of the blend or a neighbor.
    shown = np.concatenate([place, seen.neighbors])
    for x, y, _ in galaxies():
        if box.contains(y, x):
            assert np.hypot(*(shown - [x, y]).T).min() < 2


def test_the_table_has_all_sources_and_flags_that_fit() -> None:
    row = {column.name: 1.0 for column in catalog.columns(BANDS)}
    row |= {"source_id": 2, "quality": "low", "flags": sum(Flag)}
    lines = _lines([row, row | {"flags": 0}], [0, 1], BANDS)
    assert [number for number, _ in lines] == [0] * (len(lines) - 1) + [1]
    flags = [words for number, words in lines[1:] if number == 0]
    assert all(words[0] == "" and len(words[1]) <= LONGEST for words in flags)
    named = ", ".join(words[1] for words in flags).replace(",,", ",").split(", ")
    assert named == [str(flag.name) for flag in Flag]


def test_a_source_is_found_by_place_as_by_number(out: str) -> None:
    table, finished = catalog.read_catalog(out), open_finished(out)
    for row in table.slice(0, 40).to_pylist()[::9]:
        by_number = find_source(finished, str(row["source_id"]))
        assert by_number.to_pylist() == [row]
        target = f"{row['ra']:.7f},{row['dec']:.7f}"
        assert find_source(finished, target).to_pylist() == [row]
    # Between two sources it is the nearest.
    sky = SkyCoord(table["ra"].to_numpy(), table["dec"].to_numpy(), unit="deg")
    aim = SkyCoord(sky[5].ra, sky[5].dec + 1 * u.arcsec)
    nearest = int(sky.separation(aim).argmin())
    found = find_source(finished, f"{aim.ra.deg},{aim.dec.deg}")
    assert found["source_id"][0] == table["source_id"][nearest]


def test_inspect_and_map_write_pictures(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    identifier = str(catalog.read_catalog(out)["source_id"][3])
    picture = tmp_path / "blend.png"
    code, said, _ = run(capsys, "inspect", out, identifier, "--out", str(picture))
    assert code == 0
    assert identifier in said
    assert str(picture) in said
    shown = matplotlib.image.imread(picture)
    assert shown.shape[1] == 1500
    assert shown.std() > 0.1
    for form, magic in (("pdf", b"%PDF"), ("svg", b"<?xml")):
        drawn = tmp_path / f"blend.{form}"
        assert run(capsys, "inspect", out, identifier, "--out", str(drawn))[0] == 0
        assert drawn.read_bytes().startswith(magic)
    code, said, _ = run(capsys, "map", out, "--out", str(tmp_path / "maps"))
    assert code == 0
    names = ["depth.png", "density.png", "failures.png", "blended.png", "cells.parquet"]
    assert [Path(line).name for line in said.split()] == names
    assert all((tmp_path / "maps" / name).stat().st_size > 1000 for name in names)
    code, _, said = run(capsys, "map", out, "--out", str(tmp_path / "maps"))
    assert code == 2
    assert "--overwrite" in said
    assert run(capsys, "map", out, "--out", str(tmp_path / "maps"), "--overwrite")[0] == 0


def test_parts_are_one_survey(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The maps are those of the whole, and a source is found in whichever part it lies."""
    halves = {"west": 0, "b": SKY[0] // 2}
    for name, x in halves.items():
        for band in BANDS:
            path = tmp_path / "tiles" / f"{name}_{band}.fits"
            write_coadd(path, band, x, 0, SKY[0] // 2, SKY[1])
    config = CatalogConfig(bands=BANDS, deblender="sep", photometry="mixture", border=20)
    whole, *parts = (str(tmp_path / name) for name in ("whole", "part1", "part2"))
    with catalogs_in_process():
        for out, part in zip((whole, *parts), (None, "1/2", "2/2"), strict=True):
            run_catalog(str(tmp_path / "tiles"), out, config, RunRequest(part=part), progress=False)
    for outs, maps in ((str(tmp_path / "part*"), "of_parts"), (whole, "of_all")):
        assert run(capsys, "map", outs, "--out", str(tmp_path / maps))[0] == 0
    of_parts, of_all = (
        pd.read_parquet(tmp_path / maps / "cells.parquet").set_index("tile")
        for maps in ("of_parts", "of_all")
    )
    assert sorted(of_parts.index) == sorted(halves)
    pd.testing.assert_frame_equal(of_parts.loc[of_all.index], of_all)
    for part in parts:
        identifier = str(catalog.read_catalog(part)["source_id"][0])
        picture = str(tmp_path / f"{identifier}.png")
        pattern = str(tmp_path / "part*")
        assert run(capsys, "inspect", pattern, identifier, "--out", picture)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "{out}", "17"], "has no source 17"),
        (["inspect", "{out}", "sirius"], "neither a source_id nor a position"),
        (["inspect", "{out}", "150.0,95"], "neither a source_id nor a position"),
        (["inspect", "{out}", "10.0,10.0"], "no finished tile reaches there"),
        (["inspect", "{out}", "-1.5,-0.3"], "no source at 358.50000,-0.30000"),
        (["inspect", "{out}", "17", "--out", "a.gif"], "a.gif must end in one of .png, .pdf, .svg"),
        (["inspect", "{out}", "-17"], "has no source -17"),
        (["inspect", "{empty}", "17"], "holds no catalog"),
        (["map", "{empty}"], "holds no catalog"),
        (["export", "hats", "{empty}", "{empty}/hats"], "holds no catalog"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    arguments: list[str],
    words: str,
    out: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, said = run(capsys, *(a.format(out=out, empty=tmp_path) for a in arguments))
    assert code == 2
    assert said.startswith("raydeblend: ")
    assert said.strip().count("\n") == 0
    assert words in said


def test_a_position_without_a_source_names_the_distance(out: str) -> None:
    table = catalog.read_catalog(out)
    x, y = (table[name].to_numpy() for name in ("x", "y"))
    grid = np.stack(np.meshgrid(np.arange(5, 295), np.arange(5, 175)), -1).reshape(-1, 2)
    apart = np.hypot(grid[:, :1] - x, grid[:, 1:] - y).min(axis=1)
    ra, dec = sky_wcs().all_pix2world(*grid[apart.argmax()], 0)
    arcsec = apart.max() * SCALE
    assert arcsec > 3
    with pytest.raises(ConfigError, match=f"the nearest is {arcsec:.1f} arcsec away"):
        find_source(open_finished(out), f"{ra:.7f},{dec:.7f}")


def test_a_tile_that_is_gone_is_named(out: str, tmp_path: Path) -> None:
    finished = open_finished(out)
    header = finished.headers["field"]
    source = find_source(finished, str(catalog.read_catalog(out)["source_id"][0]))
    image = next(file.image for file in header.files if file)
    shutil.move(image, tmp_path / "away.fits")
    try:
        with pytest.raises(ConfigError, match="tile field can no longer be read"):
            take_apart(finished, source)
    finally:
        shutil.move(tmp_path / "away.fits", image)


def test_statistics_of_cells(out: str, tmp_path: Path) -> None:
    cells = {cell.cell: cell for cell in cell_statistics(open_finished(out))}
    table = catalog.read_catalog(out)
    assert set(cells) == set(table["cell"].to_pylist())
    for name, cell in cells.items():
        rows = table.filter(np.array(table["cell"].to_pylist()) == name)
        # Two columns of 150 pixels and two rows of 90.
        assert cell.density == pytest.approx(len(rows) / (150 * 90 * (SCALE / 60) ** 2), rel=1e-4)
        assert cell.blended == pytest.approx((rows["n_blended"].to_numpy() > 1).mean())
        assert cell.sources == len(rows)
    first = cells["y00000-00090_x00000-00150"]
    expected = sky_wcs().all_pix2world(
        [[-0.5, -0.5], [149.5, -0.5], [149.5, 89.5], [-0.5, 89.5]], 0
    )
    np.testing.assert_allclose(first.corners, expected, atol=1e-9)


def test_depth_is_five_times_the_error_of_faint_sources() -> None:
    n = 8
    rows = {name: np.zeros(n) for name in catalog.schema(("g", "i")).names}
    rows |= {c.name: np.full(n, "x") for c in catalog.columns(("g",)) if "string" in str(c.type)}
    # 20 nJy for the faint, more for the bright and null for one.
    rows["snr"] = np.array([5, 8, 19, 6, 300, 4000, 50, 7.0])
    rows["flux_err_g"] = np.array([20, 20, 20, 20, 90, 900, 30, np.nan])
    rows["flux_err_i"] = np.full(n, np.nan)
    table = catalog.to_table(rows, ("g", "i"))
    # 100 nJy is magnitude 26.4.
    assert depth(table, "g") == pytest.approx(31.4 - 2.5 * 2)
    assert np.isnan(depth(table, "i"))


def test_a_failed_cell_is_a_hole(out: str, tmp_path: Path) -> None:
    copy = str(tmp_path / "out")
    shutil.copytree(out, copy)
    first = read_entries(copy)[0]
    write_entry(copy, LedgerEntry(*first.key, "failed", "detect: a reason"))
    cells = cell_statistics(open_finished(copy))
    assert [cell.failed == 1 for cell in cells] == [True, False, False, False]
    assert np.isnan([cells[0].density, cells[0].blended, *cells[0].depth]).all()
    assert set(map_figures(cells, BANDS)) == {"depth", "density", "failures", "blended"}


def test_a_cell_that_is_not_done_yet_is_marked(out: str, tmp_path: Path) -> None:
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    entries = read_entries(str(copy))
    shutil.rmtree(copy / "ledger")
    for entry in entries[1:]:
        write_entry(str(copy), entry)
    cells = cell_statistics(open_finished(str(copy)))
    assert {cell.cell for cell in cells} == {entry.cell for entry in entries}
    assert cells[-1].cell == entries[0].cell
    assert [bool(np.isnan(cell.failed)) for cell in cells] == [False, False, False, True]


def test_scales_of_colors_show_no_noise() -> None:
    assert color_range(np.array([25.0, 25.01, np.nan]), 0.5, False) == pytest.approx(
        (24.755, 25.255)
    )
    assert color_range(np.array([24.0, 26.0]), 0.5, False) == pytest.approx((24.02, 25.98))
    assert color_range(np.array([3.0, 4.0]), 10, True) == (0, 10)
    assert color_range(np.array([0.0, 1000.0]), 10, True) == pytest.approx((0, 990))
    assert color_range(np.array([-3.0, 1.0]), 4, True) == pytest.approx((-2.96, 2.96))
    assert color_range(np.array([np.nan]), 4, True) == (0, 4)


def test_unmeasured_sources_are_failures(out: str, tmp_path: Path) -> None:
    copy = tmp_path / "out"
    shutil.copytree(out, copy)
    shard = sorted(copy.glob("catalog/*/*.parquet"))[0]
    table = pq.ParquetFile(shard).read()
    rows = {name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    rows["flags"] = np.where(np.arange(len(table)) < 3, int(Flag.FIT_FAILED), int(Flag.EDGE))
    shard.write_bytes(catalog.to_bytes(catalog.to_table(rows, BANDS)))
    assert cell_statistics(open_finished(str(copy)))[0].failed == pytest.approx(3 / len(table))


def test_a_field_across_zero_is_drawn_as_one() -> None:
    def cell(ra: float) -> CellStatistics:
        corners = np.array([[ra, 0], [ra + 0.1, 0], [ra + 0.1, 0.1], [ra, 0.1]])
        corners[:, 0] %= 360
        return CellStatistics("t", str(ra), corners, 36.0, 9, 9.0, (26.0,), 0.0, 0.5)

    pictures = map_figures([cell(ra) for ra in (-0.15, -0.05, 0.05)], ("i",))
    same = map_figures([cell(ra) for ra in (99.85, 99.95, 100.05)], ("i",))
    sizes = [len(set(p["density"][16:24] for p in (pictures, same)))]
    assert sizes == [1]  # width and height in the PNG header


@pytest.mark.parametrize("pole", [90, -90])
def test_cells_around_a_pole_are_drawn_about_it(pole: int) -> None:
    """Four cells of 1° that meet at the pole make a square of two degrees, as on the sky."""
    side, corner = (np.sign(pole) * (90 - away) for away in (1, 2**0.5))
    quarters = [
        np.array([[a, pole], [a, side], [a + 45, corner], [a + 90, side]])
        for a in (0, 90, 180, 270)
    ]
    drawn = outlines(np.array(quarters, dtype=float))
    assert drawn.pole == pole
    corners = drawn.corners.reshape(-1, 2)
    np.testing.assert_allclose(corners.min(axis=0), -1, atol=1e-6)
    np.testing.assert_allclose(corners.max(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(drawn.corners[0, 1], [0, 1], atol=1e-9)  # RA 0 is up
    cells = [
        CellStatistics("t", str(i), quarter, 1.0, 9, 9.0, (26.0,), 0.0, 0.5)
        for i, quarter in enumerate(quarters)
    ]
    picture = matplotlib.image.imread(io.BytesIO(map_figures(cells, ("i",))["density"]))
    # The cells have one color, and cover much of the figure.
    pixels, counts = np.unique(picture.reshape(-1, 4), axis=0, return_counts=True)
    colored = np.ptp(pixels[:, :3], axis=1) > 0.1
    assert counts[colored].max() > 0.15 * counts.sum()


def test_the_middle_of_a_cell_at_a_pole_is_the_pole() -> None:
    ra, dec = _middle(np.array([[0.0, 89], [90, 89], [180, 89], [270, 89]]))
    assert dec == pytest.approx(90)
    ra, dec = _middle(np.array([[359.9, 0.0], [0.1, 0.0]]))
    assert (ra + 1) % 360 == pytest.approx(1)
