"""What stands live below a notebook's cell; terminals: tests/pipeline/test_progress.py."""

import io
import sys
import time
from types import SimpleNamespace

import pytest
from rich.console import Console

from raydeblend import terminal
from raydeblend.terminal import bar, live


def test_a_notebook_shows_the_bar_again_and_again_and_nothing_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[str] = []

    def display(page: str, display_id: bool) -> SimpleNamespace:
        shown.append(page)
        return SimpleNamespace(update=shown.append)

    module = SimpleNamespace(HTML=str, display=display)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=module))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(terminal, "NOTEBOOK_EVERY_S", 0.01)
    notebook = Console(file=io.StringIO(), force_jupyter=True)
    done = iter(range(1000))
    with live(lambda: bar(next(done), 1000, f"{len(shown)} before"), notebook):
        deadline = time.monotonic() + 30
        while len(shown) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert ["0 before" in shown[0], "2 before" in shown[2]] == [True, True]
    assert shown[0].startswith("<pre>")
    assert shown[-1] == ""
    assert notebook.file.getvalue() == ""
