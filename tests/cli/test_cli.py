"""The command line as a user meets it: exit codes, and one sentence for each mistake."""

import json
from pathlib import Path

import numpy as np
import pytest

from raydeblend.cli.main import main
from raydeblend.simulate.protocols import wang2022_blends


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    streams = capsys.readouterr()
    return int(stopped.value.code or 0), streams.out, streams.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["catalog", "{empty}", "{out}", "--bands", "g,q"], ["no band 'q'", "g, r, i"]),
        (["catalog", "{empty}", "{out}", "--bands", "g", "--survey", "SDS"], ["unknown survey"]),
        (["catalog", "{empty}", "{out}", "--bands", "g"], ["{empty}"]),
        (["catalog", "{empty}/missing", "{out}", "--bands", "g"], ["missing"]),
        (["catalog", "{empty}", "{out}", "--bands", "g", "--deblender", "x"], ["joint, rdn"]),
        (["catalog", "{empty}", "{out}", "--bands", "g", "--photometry", "x"], ["ngmix"]),
        (["catalog", "{empty}", "{out}", "--bands", ""], ["no band is given"]),
        (["train", "gun", "--out", "{out}"], ["unknown network 'gun'", "known: rdn"]),
        (["evaluate", "wong", "--out", "{out}"], ["unknown protocol", "wang2022"]),
        (["evaluate", "wang2022", "--out", "{out}", "--data", "no.npz"], ["no.npz"]),
        (["evaluate", "wang2022", "--out", "{out}", "--bands", "7"], ["--bands", "hemmati2022"]),
        (["evaluate", "gan", "--out", "{out}", "--deblender", "rdn"], ["--deblender", "survey"]),
        (["train", "suspect", "--out", "{out}", "--workers", "2"], ["--workers", "networks"]),
        (["train", "suspect", "--out", "{out}", "--resume"], ["--resume", "--preset"]),
        (["train", "suspect", "--out", "{out}", "--gpus", "0"], ["--gpus"]),
        (["deblend", "no.npz", "{out}.npz", "--deblender", "sep"], ["no.npz"]),
        (["deblend", "no.npz", "{out}.npz", "--deblender", "x"], ["unknown deblender"]),
        (["simulate", "blends", "{out}", "--protocol", "x"], ["unknown protocol"]),
        (["simulate", "tiles", "{out}", "--bands", "K"], ["no band 'K'"]),
        (["verify", "{empty}"], ["{empty}"]),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
    arguments: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    places = {"empty": str(empty), "out": str(tmp_path / "out")}
    code, _, message = run(capsys, *(a.format(**places) for a in arguments))
    assert code == 2
    assert message.startswith("raydeblend: ")
    assert message.strip().count("\n") == 0
    for word in words:
        assert word.format(**places) in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["train", "rdn", "--preset", "huge", "--out", "x"], ["fly"]])
def test_usage_errors_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, *arguments)[0] == 2


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    for command in ("simulate", "train", "catalog", "verify", "deblend", "evaluate", "weights"):
        assert command in out


def test_deblend_writes_the_fixed_arrays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blends = wang2022_blends(2, seed=3)["blend2"]
    source, out = tmp_path / "in.npz", tmp_path / "out.npz"
    np.savez(source, images=blends, variance=np.ones_like(blends), bands=["g", "r", "i"])
    assert run(capsys, "deblend", str(source), str(out))[0] == 0
    with np.load(out) as result:
        n, k = result["xy"].shape[:2]
        assert result["models"].shape == (n, k, 3, 80, 80)
        assert result["n_sources"].shape == result["quality"].shape == (2,)


def test_simulated_blends_are_scored_beside_sep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "blends.npz", tmp_path / "scores"
    assert run(capsys, "simulate", "blends", str(data), "--n", "3")[0] == 0
    code, table, _ = run(capsys, "evaluate", "wang2022", "--data", str(data), "--out", str(out))
    assert code == 0
    rows = json.loads((out / "metrics.json").read_text())
    assert {row["deblender"] for row in rows} == {"joint", "sep"}
    assert "sep" in table


def test_weights_lists_what_is_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "weights")
    assert code == 0
    assert "rdn  " in out
    code, out, _ = run(capsys, "weights", "rdn")
    assert code == 0
    assert "trained on" in out


def test_training_shards_are_rendered_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ray_local: None
) -> None:
    arguments = ["simulate", "blends", str(tmp_path), "--training", "--n", "16"]
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    shard = Path(out.strip())
    written = shard.stat().st_mtime_ns
    with np.load(shard) as arrays:
        assert arrays["images"].shape[1:] == (3, 96, 96)
    assert run(capsys, *arguments)[0] == 0
    assert shard.stat().st_mtime_ns == written


def test_layouts_are_listed_and_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, listed, _ = run(capsys, "layouts")
    assert code == 0
    for name in ("lsst-dp2", "hsc", "native", "legacy (not recognized by auto)"):
        assert f"\n{name}: " in f"\n{listed}"
    code, text, _ = run(capsys, "layouts", "hsc")
    (tmp_path / "mine.yaml").write_text(text)
    assert (code, run(capsys, "layouts", str(tmp_path / "mine.yaml"))[:2]) == (0, (0, f"{text}\n"))
    code, _, message = run(capsys, "layouts", "des")
    assert code == 2
    assert "valid: auto, euclid-mer, hsc" in message
