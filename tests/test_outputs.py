"""Results that are there are never replaced without being asked."""

from pathlib import Path

import pytest

from raydeblend.cli.main import main
from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.request import Report, Request
from raydeblend.evaluate.protocol import Protocol, run_evaluation
from raydeblend.simulate.tiles import simulate_neighbors, simulate_tiles


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return int(stopped.value.code or 0)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_tiles_are_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    out = str(tmp_path)
    simulate_tiles(out, "HSC", ("g", "i"), 1, 64, seed=1)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match=r"r00c00_g.fits, r00c00_i.fits, truth.parquet already"):
        simulate_neighbors(out, "HSC", ("g",), "pairs", 1)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    simulate_tiles(out, "HSC", ("g",), 1, 64, seed=2, overwrite=True)
    assert names(tmp_path) == {"r00c00_g.fits", "truth.parquet"}
    assert (tmp_path / "r00c00_g.fits").read_bytes() != first["r00c00_g.fits"]


def test_tiles_of_others_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "8283_g.fits").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="8283_g"):
            simulate_tiles(str(tmp_path), "HSC", ("g",), 1, 64, overwrite=overwrite)
    assert names(tmp_path) == {"8283_g.fits"}


def test_the_commands_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blends = str(tmp_path / "blends.npz")
    tiles = [str(tmp_path / "sky"), "--bands", "i", "--seed", "1"]
    for words in (["blends", blends, "--n", "1"], ["neighbors", *tiles, "--n", "1"]):
        assert run("simulate", *words) == 0
        assert run("simulate", *words) == 2
        assert "--overwrite" in capsys.readouterr().err
        assert run("simulate", *words, "--overwrite") == 0


def test_an_evaluation_leaves_nothing_of_the_one_that_it_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(figure: str, overwrite: bool = False) -> None:
        report = Report([{"n": 1}], [], {figure: figure.encode()})
        monkeypatch.setattr(Protocol, "run", lambda self, request: report)
        run_evaluation(Request("wang2022", ("sep",), None, 2, str(tmp_path)), overwrite=overwrite)

    evaluate("old.png")
    (tmp_path / "mine.png").write_text("mine")
    before = names(tmp_path)
    with pytest.raises(ConfigError, match="give --overwrite"):
        evaluate("new.png")
    assert names(tmp_path) == before
    evaluate("new.png", overwrite=True)
    assert names(tmp_path) == before - {"old.png"} | {"new.png"}
