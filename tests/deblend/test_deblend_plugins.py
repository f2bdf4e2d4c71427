"""Deblenders that a user brings."""

import hashlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from raydeblend.config import CatalogConfig
from raydeblend.deblend import load_deblender
from raydeblend.errors import ConfigError
from raydeblend.pipeline.cell_state import CellState, run_stage
from raydeblend.pipeline.deblending import DeblendCell

WHOLE = '''
import numpy as np
from raydeblend.tile import Deblended


class Whole:
    """One source: the whole stamp."""

    name = "whole"

    def __call__(self, images, **_):
        n = len(images)
        xy = np.full((n, 1, 2), 7.0, dtype=np.float32)
        return Deblended(np.asarray(images)[:, None], np.ones(n, int), xy, np.full(n, "high"))


nothing = dict
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "whole_deblender.py").write_text(WHOLE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_class_in_the_working_directory_is_found(folder: Path) -> None:
    deblender = load_deblender("whole_deblender:Whole")
    images = np.ones((2, 3, 24, 24), dtype=np.float32)
    assert deblender(images).models.shape == (2, 1, 3, 24, 24)
    assert CatalogConfig(bands=("g",), deblender="whole_deblender:Whole").deblender


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_module:Whole", "no_such_module"),
        ("whole_deblender:Half", "Half"),
        ("whole_deblender:nothing", "not a deblender"),
        ("whole_deblender:", "give module:name"),
    ],
)
def test_what_is_no_deblender_is_one_sentence(folder: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_deblender(name)


FAULTY = WHOLE.replace("n = len(images)", "n = len(images) // self.zero").replace(
    'name = "whole"', 'name, zero = "whole", 0'
)


def test_a_mistake_in_it_is_told_with_file_and_line(folder: Path) -> None:
    (folder / "faulty_deblender.py").write_text(FAULTY)
    line = 1 + FAULTY.splitlines().index("        n = len(images) // self.zero")
    deblender = load_deblender("faulty_deblender:Whole")
    with pytest.raises(ConfigError) as told:
        deblender(np.ones((2, 3, 24, 24)))
    assert f"faulty_deblender:Whole failed at faulty_deblender.py:{line}" in str(told.value)
    assert "ZeroDivisionError: integer division" in str(told.value)
    work = run_stage(CellState(cast(Any, None), np.ones((1, 3, 24, 24))), "deblend", deblender)
    assert work.error == "deblend: " + str(told.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = (", "SyntaxError"),
        ("x = 1 / 0", r"_\d.py:1: ZeroDivisionError"),
        ("def Own(): return open('none')", r"_\d.py:1: FileNotFoundError"),
    ],
)
def test_so_is_one_while_it_is_loaded(folder: Path, text: str, said: str) -> None:
    name = f"unloadable_{len(said) % 10}"
    (folder / f"{name}.py").write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_deblender(f"{name}:Own")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[:, None]", "", r"models of shape \(2, 3, 24, 24\), not \(n, k, bands, y, x\)"),
        ("np.ones(n, int)", "np.ones(1, int)", r"n_sources of shape \(1,\), not \(2,\)"),
        ("return Deblended(", "return tuple((", "returned tuple"),
    ],
)
def test_what_it_must_not_return_is_told(folder: Path, old: str, new: str, said: str) -> None:
    text = WHOLE.replace(old, new).replace(
        '"high"))', '"high")))' if "tuple" in new else '"high"))'
    )
    name = f"wrong_{len(new)}"
    (folder / f"{name}.py").write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_deblender(f"{name}:Whole")(np.ones((2, 3, 24, 24)))


def test_its_source_is_part_of_what_a_run_is_made_with(folder: Path) -> None:
    config = CatalogConfig(bands=("g",), deblender="whole_deblender:Whole")
    digest = hashlib.sha256(WHOLE.encode()).hexdigest()[:16]
    assert digest in DeblendCell(config).weights_hash.split("-")
    package = folder / "own_package"
    package.mkdir()
    for name, text in (("__init__", ""), ("core", WHOLE), ("parts", "x = 1")):
        (package / f"{name}.py").write_text(text)
    before = load_deblender("own_package.core:Whole").source_hash
    (package / "parts.py").write_text("x = 2")
    assert load_deblender("own_package.core:Whole").source_hash != before
