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
    ("text", "said"),
    [
        ("deblnder: sep\n", "names deblnder, which deblend does not have; valid are deblender"),
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
