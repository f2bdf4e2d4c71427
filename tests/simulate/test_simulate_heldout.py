"""Galaxies of a test set are recognized in the catalog and left out of training."""

from pathlib import Path

import numpy as np
import pytest

from raydeblend.errors import ConfigError
from raydeblend.simulate.galaxies import draw_galaxies, read_catsim
from raydeblend.simulate.heldout import exclude_held_out
from raydeblend.simulate.isolated import render_group
from raydeblend.survey import get_survey

BANDS = ("g", "r", "i")
SHARED = Path(__file__).parents[3] / "shared" / "data"


def test_rendered_galaxies_are_found_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    table = draw_galaxies(60, BANDS, rng, faint=24.0)
    tested = [5, 17, 40]
    group = render_group(table.take(np.array(tested)), get_survey("LSST"), rng)
    # One blend of three galaxies; the bands of the file are in another order.
    images = group.images[None, :, ::-1]
    path = str(tmp_path / "test.npz")
    np.savez(path, isolated3=images, bands=np.array(BANDS[::-1]))

    left = exclude_held_out(table, path)
    assert len(left) == 57
    kept = set(left.redshift)
    assert all(table.redshift[row] not in kept for row in tested)


def test_other_files_are_refused(tmp_path: Path) -> None:
    table = draw_galaxies(5, BANDS, np.random.default_rng(0))
    np.savez(tmp_path / "other.npz", images=np.zeros(3))
    with pytest.raises(ConfigError, match="not a test set"):
        exclude_held_out(table, str(tmp_path / "other.npz"))
    with pytest.raises(ConfigError, match="no test set"):
        exclude_held_out(table, str(tmp_path / "missing.npz"))


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_the_protocol_of_wang_et_al() -> None:
    """Drawn by BTK from these very rows: 200 x 2 + 80 x 3 galaxies, some of them twice."""
    table = read_catsim(str(SHARED / "catalogs" / "catsim_onedegsq.fits"), BANDS)
    left = exclude_held_out(table, str(SHARED / "protocols" / "wang2022_valid.npz"))
    expected = 1 - np.exp(-640 / len(table))  # of draws with replacement
    assert 1 - len(left) / len(table) == pytest.approx(expected, abs=0.04)
