"""Numbers with their nouns, and lists on terminals of any width."""

import sys

import pytest

from raydeblend.wording import amount, beside


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


def test_elsewhere_it_is_one_line() -> None:
    text = "word " * 40
    assert beside("flux_g  ", text) == "flux_g  " + text
