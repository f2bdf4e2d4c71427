"""A run whose cells are suspect ends with exit code 1 and says which check failed."""

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from in_process import catalogs_in_process

from benchmarks.gaussian_sky import BANDS, draw_galaxies, write_tile
from raydeblend.cli.main import main

SIZE = 160
FOUND = r"1 of 1 cells are suspect:\n  t y\S+: the noise of band r is 1\.[34]\d times what its"


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """A tile with two galaxies."""
    folder = tmp_path / "tiles"
    folder.mkdir()
    xy = np.array([[40.2, 60.1], [100.3, 100.1]])
    write_tile(str(folder), "t", draw_galaxies(xy, np.full(2, 4000.0), np.full(2, 2.2), SIZE))
    return folder


def exit_code(tiles: Path, *options: str) -> int | str:
    command = ["catalog", str(tiles), str(tiles.parent / "out"), "--bands", ",".join(BANDS)]
    command += ["--survey", "HSC", "--deblender", "sep", "--photometry", "mixture"]
    with catalogs_in_process(), pytest.raises(SystemExit) as stopped:
        main([*command, "--inject", "0", *options])
    return stopped.value.code or 0


@pytest.mark.parametrize(
    ("options", "code"),
    [([], 1), (["--max-suspect", "0.5"], 1), (["--max-suspect", "1"], 0)],
)
def test_too_many_suspect_cells_are_exit_code_1(
    tiles: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int
) -> None:
    with fits.open(tiles / "t_r.fits", mode="update") as hdus:
        hdus["VARIANCE"].data /= 2
    assert exit_code(tiles, *options) == code
    assert re.search(FOUND, capsys.readouterr().out)


@pytest.mark.parametrize("image", [1.0, np.nan])
def test_an_input_that_the_masks_rule_out_is_exit_code_1(
    tiles: Path, capsys: pytest.CaptureFixture[str], image: float
) -> None:
    for band in BANDS:
        with fits.open(tiles / f"t_{band}.fits", mode="update") as hdus:
            hdus["MASK"].data |= 1
            hdus["IMAGE"].data *= image
    assert exit_code(tiles, "--max-suspect", "1") == 1
    said = capsys.readouterr().out
    assert "no cell has a usable pixel: the masks rule out the whole input\n" in said
    # Where nothing was observed the mask itself is right.
    assert ("rules out 100% of the pixels with data" in said) == bool(np.isfinite(image))
