"""What is found of the input before a run begins."""

import signal
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from raydeblend.cli.main import main
from raydeblend.config import CatalogConfig
from raydeblend.errors import ConfigError, Stopped
from raydeblend.pipeline import preparation, survey
from raydeblend.pipeline.entries import LedgerEntry
from raydeblend.pipeline.entry_tables import to_table
from raydeblend.pipeline.execution import Execution
from raydeblend.pipeline.forecast import (
    CPU_SECONDS,
    Forecast,
    _cpu_seconds,
    forecast_catalog,
    forecast_lines,
)
from raydeblend.pipeline.survey import run_catalog
from raydeblend.simulate.tiles import simulate_tiles


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sky")
    simulate_tiles(str(folder), "HSC", ("g", "i"), 1, 64, seed=1)
    return folder


def test_a_band_of_which_no_tile_has_a_file_is_refused(sky: Path, tmp_path: Path) -> None:
    config = CatalogConfig(bands=("g", "r", "i", "z"), deblender="sep", photometry="mixture")
    with pytest.raises(ConfigError, match=r"no tile of .* has an image in r, z; leave"):
        run_catalog(str(sky), str(tmp_path / "out"), config)
    assert not (tmp_path / "out").exists()


def test_bands_under_several_names_of_a_tile_are_refused(sky: Path, tmp_path: Path) -> None:
    for band in "gi":
        (tmp_path / f"line{ord(band)}_{band}.fits").symlink_to(sky / f"r00c00_{band}.fits")
    config = CatalogConfig(bands=("g", "i"), deblender="sep", photometry="mixture")
    with pytest.raises(ConfigError, match=r"has two of the bands \(g of line103, i of line105\)"):
        run_catalog(str(tmp_path), str(tmp_path / "out"), config)


def test_a_run_that_is_stopped_says_how_far_it_is_and_how_to_go_on(
    sky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "out")
    config = CatalogConfig(("g", "i"), deblender="sep", photometry="mixture", cell_size=64)

    def process(*_: object, **__: object) -> Iterator[LedgerEntry]:
        yield LedgerEntry("r00c00", "y00000-00064_x00000-00064", "done", sources=3)
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(preparation, "ray_session", lambda _: nullcontext())
    monkeypatch.setattr(survey, "claim_gpus", lambda: 0)
    monkeypatch.setattr(survey, "shared_folder", lambda *_: nullcontext(""))
    monkeypatch.setattr(survey, "counted", lambda work, n: work)
    monkeypatch.setattr(survey, "process", process)
    with pytest.raises(Stopped) as stopped:
        run_catalog(str(sky), out, config, progress=False)
    assert stopped.value.number == signal.SIGTERM
    done, _, command = stopped.value.said.partition("; go on with: ")
    assert done == "1 of 1 cells done"
    assert command.startswith(f"raydeblend catalog {sky} {out} --bands g,i --deblender sep ")
    assert command.endswith(" --resume")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_have_the_exit_codes_of_a_shell(
    number: signal.Signals,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = signal.getsignal(number)
    monkeypatch.setattr(
        "raydeblend.networks.listing.list_shipped", lambda: signal.raise_signal(number)
    )
    with pytest.raises(SystemExit) as ended:
        main(["weights"])
    assert ended.value.code == code
    assert capsys.readouterr().err == "raydeblend: stopped\n"
    assert signal.getsignal(number) == before


def test_a_dry_run_says_what_there_is_to_do_and_writes_nothing(
    sky: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    config = CatalogConfig(("g", "i"), deblender="sep", photometry="mixture", cell_size=64)
    found = forecast_catalog(str(sky), str(out), config)
    assert (found.n_tiles, found.n_unusable, found.n_cells, found.n_left) == (1, 0, 1, 1)
    # 64 pixels of 0.168", two bands of 12 bytes a pixel; the border ends with the tile.
    assert found.arcmin2 == pytest.approx((64 * 0.168 / 60) ** 2, rel=1e-6)
    assert found.read_bytes == 64**2 * 2 * 12
    assert found.cpu_seconds is None
    words = ["catalog", str(sky), str(out), "--bands", "g,i", "--deblender", "sep", "--dry-run"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert not ended.value.code
    said = capsys.readouterr().out
    assert said.startswith("1 tile; 1 cell, 1 to do\n0.03 arcmin², 0.1 MB of pixels to read\n")
    assert "not known for sep" in said
    assert not out.exists()


def test_the_address_of_a_dashboard_is_refused_before_tiles_are_looked_for(tmp_path: Path) -> None:
    there = Execution(address="http://head:8265")
    with pytest.raises(ConfigError, match="ray job submit --address http://head:8265"):
        run_catalog("no-such-input", str(tmp_path), CatalogConfig(("g",)), execution=there)


def test_a_forecast_is_in_units_that_suit_it() -> None:
    survey = Forecast(37500, 0, 640000, 640000, 3.6e6, 2.4e13, 7.2e7, "a rate", 16)
    assert list(forecast_lines(survey))[1:4] == [
        "3,600,000.00 arcmin², 24.0 TB of pixels to read",
        "20,000.0 CPU hours (a rate)",
        "about 65 days, 2:30:00 on the 16 CPUs of this machine, once started",
    ]
    nothing = replace(survey, n_left=0)
    assert list(forecast_lines(nothing))[1:] == ["nothing was written"]


def test_of_a_run_that_was_begun_the_done_cells_tell_the_time() -> None:
    cells = [{"detect": 1.0, "deblend": 2.0}, {"detect": 3.0, "deblend": 6.0}]
    entries = [LedgerEntry("t", f"c{i}", "done", seconds=cell) for i, cell in enumerate(cells)]
    config = CatalogConfig(("g", "r"))
    assert _cpu_seconds(config, to_table([]), 5, 3.0)[0] == 2 * CPU_SECONDS["joint"] * 3.0
    seconds, basis = _cpu_seconds(config, to_table(entries), 5, 1.0)
    assert seconds == 5 * 12 / 2
    assert basis == "as in the 2 cells done before"
