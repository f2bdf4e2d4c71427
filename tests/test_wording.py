"""Numbers with their nouns, and lists on terminals of any width."""

import sys

import pytest

from raydeblend.wording import amount, beside, fitted


def test_one_thing_is_not_plural() -> None:
    assert amount(1, "tile") == "1 tile"
    assert [amount(n, "cell") for n in (0, 2, 4321)] == ["0 cells", "2 cells", "4,321 cells"]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "30")


@pytest.mark.usefixtures("terminal")
def test_a_text_is_folded_beside_its_head_on_a_terminal() -> None:
    folded = beside("flux_g  nJy  ", "total flux of the model in g")
    assert folded.splitlines() == ["flux_g  nJy  total flux of the", " " * 13 + "model in g"]
    assert max(map(len, beside("x" * 28, "a b c d e f g h i j k").splitlines())) <= 48


@pytest.mark.usefixtures("terminal")
def test_a_table_wider_than_the_terminal_is_cut_into_parts() -> None:
    narrow = "| name | x |\n| ---- | - |\n| a    | 1 |"
    assert fitted(f"before\n\n{narrow}\nafter") == f"before\n\n{narrow}\nafter"
    wide = "| name | psnr, joint | psnr, sep |\n| a    | 50.1        | 40.2      |"
    assert fitted(wide).split("\n\n") == [
        "| name | psnr, joint |\n| a    | 50.1        |",
        "| name | psnr, sep |\n| a    | 40.2      |",
    ]
    alone = "| a column that is wider than this |"
    assert fitted(alone) == alone


def test_elsewhere_it_is_one_line() -> None:
    text = "word " * 40
    assert beside("flux_g  ", text) == "flux_g  " + text
    assert fitted(f"| {text} | {text} |") == f"| {text} | {text} |"
