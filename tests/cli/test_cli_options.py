"""Options from a YAML file, through the command line itself."""

from pathlib import Path

import numpy as np
import pytest

from raydeblend.cli.main import main
from raydeblend.simulate.protocols import wang2022_blends


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    return int(stopped.value.code or 0)


@pytest.fixture
def stamps(tmp_path: Path) -> Path:
    np.savez(tmp_path / "in.npz", images=wang2022_blends(2, seed=3)["blend2"])
    return tmp_path


def write(folder: Path, text: str) -> str:
    (folder / "options.yaml").write_text(text)
    return str(folder / "options.yaml")


def test_arguments_and_options_may_stand_in_a_file(stamps: Path) -> None:
    text = f"source: {stamps}/in.npz\nout: {stamps}/out.npz\ndeblender: sep\n"
    assert run("deblend", "--config", write(stamps, text)) == 0
    assert (stamps / "out.npz").exists()


def test_the_command_line_wins(stamps: Path) -> None:
    text = f"out: {stamps}/out.npz\ndeblender: no-such\n"
    options = write(stamps, text)
    assert run("deblend", f"{stamps}/in.npz", "--config", options, "--deblender", "sep") == 0
    assert run("deblend", f"{stamps}/in.npz", "--config", options) == 2


def test_a_list_is_an_option_given_several_times_or_parts_between_commas(
    stamps: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"n: 2\nout: {stamps}/scores\ndeblender: [sep, no-such]\n"
    assert run("evaluate", "wang2022", "--config", write(stamps, text)) == 2
    assert "'no-such'" in capsys.readouterr().err
    text = f"input: {stamps}\nout: {stamps}/out\nbands: [g, q]\ncell-size: 128\n"
    assert run("catalog", "--config", write(stamps, text)) == 2
    assert "no band 'q'" in capsys.readouterr().err


def test_an_option_of_the_file_that_would_be_dropped_is_refused(
    stamps: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"out: {stamps}/run\nworkers: 2\n"
    assert run("train", "suspect", "--config", write(stamps, text)) == 2
    assert "does not take --workers" in capsys.readouterr().err
    assert not (stamps / "run").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--manifest", "m.csv", "--layout", "hsc"], "--manifest says which files are read"),
        (["--manifest", "m.csv", "--psf-pattern", "{tile}.fits"], "leave out --psf-pattern"),
        (["--layout", "lsst", "--image-pattern", "{tile}_{band}"], "--layout lsst says"),
        (["--accept-other-versions"], "--accept-other-versions requires --resume"),
    ],
)
def test_an_option_that_another_replaces_is_refused(
    stamps: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert run("catalog", str(stamps), f"{stamps}/o", "--bands", "g", *options) == 2
    assert said in capsys.readouterr().err
    assert not (stamps / "o").exists()


def test_blends_are_drawn_on_no_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "blends.npz"
    assert run("simulate", "blends", str(out), "--n", "1", "--address", "auto") == 2
    assert "--address requires --training" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            ["catalog", "{d}", "{d}/o", "--bands", "g", option, value]
            for option in ("--zeropoint", "--threshold", "--suspect-threshold")
            for value in ("nan", "inf", "-99", "1e999")
        ),
        ["catalog", "{d}", "{d}/o", "--bands", "g", "--seed", "-1"],
        ["catalog", "{d}", "{d}/o", "--bands", "g", "--border", "-1"],
        ["simulate", "tiles", "{d}/o", "--seed", "-1"],
        ["simulate", "tiles", "{d}/o", "--density", "nan"],
        ["simulate", "tiles", "{d}/o", "--density", "inf"],
        ["simulate", "blends", "{d}/o.npz", "--n", "1", "--seed", "-1"],
        ["train", "rdn", "--out", "{d}/o", "--preset", "tiny", "--seed", "-1"],
        ["train", "rdn", "--out", "{d}/o", "--preset", "tiny", "--learning-rate", "nan"],
        ["train", "rdn", "--out", "{d}/o", "--preset", "tiny", "--learning-rate", "inf"],
        ["train", "suspect", "--out", "{d}/o", "--preset", "tiny", "--seed", "-1"],
        ["evaluate", "wang2022", "--out", "{d}/o", "--n", "1", "--seed", "-1"],
        ["evaluate", "hemmati2022", "--out", "{d}/o", "--n", "1", "--bands", "3"],
        ["export", "hats", "{d}", "{d}/o", "--margin", "nan"],
        ["export", "hats", "{d}", "{d}/o", "--margin", "inf"],
        ["export", "hats", "{d}", "{d}/o", "--rows-per-partition", "0"],
    ],
)
def test_a_number_outside_its_domain_is_found_before_any_work(
    arguments: list[str], stamps: Path
) -> None:
    assert run(*(argument.format(d=stamps) for argument in arguments)) == 2
    assert not (stamps / "o").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deblnder: sep\n", "has unknown options for deblend: deblnder; valid: deblender"),
        ("- sep\n", "holds no options"),
        ("a: [1\n", "cannot read the options"),
        ("!!python/object/apply:os.system ['true']\n", "cannot read the options"),
    ],
)
def test_a_bad_file_is_one_sentence(
    stamps: Path, text: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("deblend", "a.npz", "b.npz", "--config", write(stamps, text)) == 2
    assert said in capsys.readouterr().err
    assert run("deblend", "a.npz", "b.npz", "--config", f"{stamps}/none.yaml") == 2
