"""Deblenders that a user brings."""

from pathlib import Path

import numpy as np
import pytest

from raydeblend.config import CatalogConfig
from raydeblend.deblend import load_deblender
from raydeblend.errors import ConfigError

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
        ("whole_deblender:nothing", "no deblender"),
        ("whole_deblender:", "give module:name"),
    ],
)
def test_what_is_no_deblender_is_one_sentence(folder: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_deblender(name)
