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
def tiles(tmp_path: Path) -> str:
    """A tile with half of the variance in r."""
    folder = tmp_path / "tiles"
    folder.mkdir()
    xy = np.array([[40.2, 60.1], [100.3, 100.1]])
    write_tile(str(folder), "t", draw_galaxies(xy, np.full(2, 4000.0), np.full(2, 2.2), SIZE))
    with fits.open(folder / "t_r.fits", mode="update") as hdus:
        hdus["VARIANCE"].data /= 2
    return str(folder)


@pytest.mark.parametrize(
    ("options", "code"),
    [([], 1), (["--max-suspect", "0.5"], 1), (["--max-suspect", "1"], 0)],
)
def test_too_many_suspect_cells_are_exit_code_1(
    tiles: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
) -> None:
    command = ["catalog", tiles, str(tmp_path / "out"), "--bands", ",".join(BANDS)]
    command += ["--survey", "HSC", "--deblender", "sep", "--photometry", "mixture"]
    command += ["--inject", "0"]
    with catalogs_in_process(), pytest.raises(SystemExit) as stopped:
        main([*command, *options])
    assert (stopped.value.code or 0) == code
    assert re.search(FOUND, capsys.readouterr().out)
