"""Injection beside a run: its table, and a clean catalog that does not know of it."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import survey_sky as sky
from in_process import catalogs_in_process

from raydeblend.config import CatalogConfig
from raydeblend.draw.injected import healpix_lines, injected_lines
from raydeblend.errors import ConfigError
from raydeblend.inject.drawing import inject as injection_drawing
from raydeblend.inject.read import read_injected
from raydeblend.inject.sources import CONTROLS
from raydeblend.inject.statistics import column, is_control
from raydeblend.pipeline import injection
from raydeblend.pipeline.ledger_files import read_entries
from raydeblend.pipeline.preparation import WHOLE_RUN, RunRequest
from raydeblend.pipeline.survey import run_catalog
from raydeblend.pipeline.verify import verify_catalog

CONFIG = CatalogConfig(
    bands=sky.BANDS, deblender="sep", photometry="mixture", cell_size=210, border=40, inject=20
)


def run(tiles, out, config=CONFIG, request=WHOLE_RUN):
    with catalogs_in_process():
        return run_catalog(str(tiles), str(out), config, request, progress=False)


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiles")
    sky.write_tile(folder, "t")
    return folder


@pytest.fixture(scope="module")
def out(tiles, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    run(tiles, out)
    return out


@pytest.fixture(scope="module")
def plain(tiles, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "plain"
    run(tiles, out, replace(CONFIG, inject=0))
    return out


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A tile of one cell."""
    folder = tmp_path_factory.mktemp("small")
    sky.write_tile(folder, "t", size=130)
    return folder


@pytest.fixture(scope="module")
def small_plain(small, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "plain"
    run(small, out, replace(CONFIG, inject=0))
    return out


def files(out, folder):
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(Path(out, folder).rglob("*.parquet"))
    }


@pytest.mark.parametrize("folder", ["catalog", "parents"])
def test_the_clean_catalog_is_the_same_to_the_byte(out, plain, folder):
    assert files(out, folder) == files(plain, folder)
    assert len(files(out, folder)) == 4
    assert not files(plain, "injected")


def test_sources_that_can_be_seen_come_back_as_they_were_drawn(out):
    rows = read_injected(str(out))
    assert len(rows) > 15
    bright = rows.filter((column(rows, "magnitude") < 23) & is_control(rows))
    assert len(bright) >= 3
    assert column(bright, "found").all()
    for band in sky.BANDS:
        error = column(bright, f"flux_{band}") / column(bright, f"true_flux_{band}") - 1
        assert abs(np.median(error)) < 0.05
    assert np.abs(column(bright, "dx")).max() < 0.1
    fainter = column(rows, "magnitude") > np.median(column(rows, "magnitude"))
    found = column(rows, "found")
    assert found[fainter].mean() < found[~fainter].mean()


def test_each_source_lies_in_its_cell(out):
    for row in read_injected(str(out)).to_pylist():
        y0, y1, x0, x1 = (
            int(part) for word in row["cell"].split("_") for part in word[1:].split("-")
        )
        assert y0 <= row["y"] < y1
        assert x0 <= row["x"] < x1


def test_the_ledger_says_what_was_injected_and_how_deep_it_goes(out):
    entries = read_entries(str(out))
    assert sum(entry.injected for entry in entries) == len(read_injected(str(out)))
    assert all(0 < entry.injection_seconds < sum(entry.seconds.values()) for entry in entries)
    limits = [limit for entry in entries for limit in entry.completeness_50.values()]
    assert limits
    assert 22 < np.median(limits) < 28


def test_a_run_again_injects_the_same_and_another_seed_does_not(small, tmp_path):
    seen = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        run(small, tmp_path / name, replace(CONFIG, seed=seed))
        seen.append(files(tmp_path / name, "injected"))
    assert len(seen[0]) == 1
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]


def test_verify_and_overwrite_know_the_files(small, out, tmp_path):
    assert verify_catalog(str(out)) == []
    run(small, tmp_path / "out")
    run(small, tmp_path / "out", replace(CONFIG, inject=0), RunRequest(overwrite=True))
    assert not files(tmp_path / "out", "injected")


@pytest.mark.parametrize("step", ["inject", "draw_sources", "recover"])
def test_what_goes_wrong_with_it_is_told_and_fails_nothing(
    small, small_plain, tmp_path, monkeypatch, step
):
    def fail(*_, **__):
        raise RuntimeError("no light")

    monkeypatch.setattr(injection, step, fail)
    summary = run(small, tmp_path / "out")
    assert summary.n_failed == 0
    assert files(tmp_path / "out", "catalog") == files(small_plain, "catalog")
    for entry in read_entries(str(tmp_path / "out")):
        assert "no light" in entry.injection_failure


def test_a_few_a_cell_are_some_cells_with_one(small, tmp_path):
    run(small, tmp_path / "out", replace(CONFIG, inject=2, cell_size=65))
    entries = read_entries(str(tmp_path / "out"))
    assert all(entry.injected <= 1 for entry in entries)


def test_the_table_by_magnitude_is_printed(out, plain):
    text = "\n".join(injected_lines(str(out), 0.5))
    galaxies = int(text.split(" of them galaxies ")[0].split()[-1])
    rows = read_injected(str(out))
    assert galaxies == sum(kind == "galaxy" for kind in rows["kind"].to_pylist())
    assert not set(CONTROLS) & set(text)
    with pytest.raises(ConfigError, match="holds no injected sources"):
        list(injected_lines(str(plain), 0.5))


def test_or_by_healpix_pixel(out):
    rows = "\n".join(healpix_lines(str(out), 8192)).splitlines()[2:]
    n = [int(row.split("|")[5]) for row in rows]
    galaxies = [kind for kind in read_injected(str(out))["kind"].to_pylist() if kind == "galaxy"]
    assert len(n) > 1
    assert sum(n) == len(galaxies)
    with pytest.raises(ConfigError, match="power of two"):
        list(healpix_lines(str(out), 100))


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (1.0, r""),
        (
            0.5,
            r"the fluxes of bright injected sources in band g are wrong by -(4\d|5[01])%; .*",
        ),
        (1e-4, r"only [01] of \d+ bright injected sources were found.*"),
    ],
)
def test_controls_of_which_light_is_lost_make_a_cell_suspect(
    tiles, tmp_path, monkeypatch, part, said
):
    def dim(tile, sources, rng):
        return injection_drawing(tile, replace(sources, flux=part * sources.flux), rng)

    monkeypatch.setattr(injection, "inject", dim)
    run(tiles, tmp_path / "out", replace(CONFIG, cell_size=sky.SIZE))
    (entry,) = read_entries(str(tmp_path / "out"))
    assert re.fullmatch(said, entry.suspect), entry.suspect


@pytest.mark.parametrize("density", [-1, 101, float("nan")])
def test_a_density_that_is_none_is_refused(density):
    with pytest.raises(ConfigError, match="density of injected sources"):
        CatalogConfig(bands=("i",), inject=density)
