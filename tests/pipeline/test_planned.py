"""What is found of the input before a run begins."""

from pathlib import Path

import pytest

from raydeblend.config import CatalogConfig
from raydeblend.errors import ConfigError
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
