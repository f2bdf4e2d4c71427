"""Maps of what injected sources say, by cell."""

import numpy as np
import pyarrow as pa
import pytest

from raydeblend.draw.injected_maps import cell_of, injected_statistics
from raydeblend.draw.map_figures import SkyMap, _range, map_figures
from raydeblend.draw.maps import INJECTED_MAPS, CellStatistics, InjectedStatistics
from raydeblend.errors import ConfigError

PNG = b"\x89PNG"
CORNERS = np.array([[150.0, 2.0], [150.1, 2.0], [150.1, 2.1], [150.0, 2.1]])


def cell(name, x, injected):
    corners = CORNERS + np.array([x, 0])
    return CellStatistics("t", name, corners, 36.0, 5, 1.0, (25.0,), 0.0, 0.1, injected)


def test_a_run_with_injected_sources_has_their_maps():
    told = InjectedStatistics((25.5,), (0.01,), (1.2,))
    maps = map_figures([cell("a", 0, told), cell("b", 0.1, None)], ("i",))
    assert set(INJECTED_MAPS) < set(maps)
    assert all(png.startswith(PNG) for png in maps.values())
    assert set(map_figures([cell("a", 0, told)], ("i",), ["bias"])) == {"bias"}


@pytest.mark.parametrize(
    ("center", "range_"), [(0.0, (-3.0, 3.0)), (1.0, (-1.0, 3.0)), (None, (0, 3))]
)
def test_colors_are_even_about_their_center(center, range_):
    drawn = SkyMap({}, "", "", "coolwarm", center=center)
    np.testing.assert_allclose(_range(np.array([0.0, 3.0, np.nan]), drawn), range_, atol=0.1)


def test_a_run_without_has_none():
    assert not set(INJECTED_MAPS) & set(map_figures([cell("a", 0, None)], ("i",)))


def test_maps_that_need_injected_sources_are_refused_without(tmp_path):
    assert injected_statistics(str(tmp_path), ("i",), needed=False) == {}
    with pytest.raises(ConfigError, match="--inject"):
        injected_statistics(str(tmp_path), ("i",), needed=True)


def test_the_numbers_of_a_cell_are_those_of_its_sources():
    rng = np.random.default_rng(0)
    true = 10 ** rng.uniform(1, 4, 2000)
    found = true > 100
    flux = np.where(found, true * 1.1 + 30 * rng.standard_normal(2000), np.nan)
    rows = pa.table(
        {
            "kind": ["galaxy"] * 2000,
            "found": found,
            "true_flux_i": true,
            "flux_i": flux,
            "flux_err_i": np.full(2000, 15.0),
        }
    )
    told = cell_of(rows, ("i",))
    # 100 nJy are magnitude 26.4.
    assert told.completeness_50[0] == pytest.approx(26.4, abs=0.05)
    assert told.flux_bias[0] == pytest.approx(0.1, abs=0.01)
    assert told.pull_width[0] > 1.9
