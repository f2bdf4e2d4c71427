"""What injected sources say: numbers drawn from known distributions come back."""

import numpy as np
import pyarrow as pa
import pytest

from raydeblend.inject.matching import recover
from raydeblend.inject.statistics import (
    WIDTH,
    half_complete,
    half_limit,
    middle,
    score_bin,
    spread,
)
from raydeblend.survey import NJY_ZERO_POINT


class Sources:
    """Only what a match looks at."""

    def __init__(self, xy, flux):
        self.xy, self.flux = np.array(xy, float), np.array(flux, float)[:, None]

    def __len__(self):
        return len(self.xy)


def rows(xy, flux):
    x, y = np.reshape(np.array(xy, float), (-1, 2)).T
    return pa.table({"x": x, "y": y, "flux_i": np.array(flux, float)})


def test_an_injected_source_is_the_row_that_the_clean_catalog_lacks():
    clean = rows([(10, 10)], [100])
    found = rows([(10.1, 10), (50, 50), (51.5, 50)], [100, 40, 5])
    recovery = recover(Sources([(50.2, 50), (80, 80)], [40, 40]), found, clean, 0, "i", 1.0)
    assert recovery.match.tolist() == [1, -1]
    assert recovery.extra.tolist() == [1, 0]


@pytest.mark.parametrize(("flux", "match"), [(40, -1), (400, 0)])
def test_a_row_that_was_there_is_a_source_only_if_that_is_brighter(flux, match):
    clean = rows([(10, 10)], [100])
    found = rows([(10.2, 10)], [100 + flux])
    sources = Sources([(10.5, 10)], [flux])
    assert recover(sources, found, clean, 0, "i", 1.0).match.tolist() == [match]


def test_nothing_found_is_no_error():
    recovery = recover(Sources([(5, 5)], [1]), rows([], []), rows([], []), 0, "i", 1.0)
    assert recovery.match.tolist() == [-1]


def test_the_limit_comes_back_from_draws():
    rng = np.random.default_rng(0)
    magnitude = rng.uniform(22, 27, 4000)
    found = rng.random(4000) < 1 / (1 + np.exp((magnitude - 25.3) / WIDTH))
    assert half_limit(magnitude, found) == pytest.approx(25.3, abs=0.04)
    assert np.isnan(half_limit(magnitude, np.ones(4000, bool)))


def table(n, rng, kind="galaxy"):
    magnitude = rng.uniform(20, 21, n)
    true = 10 ** (0.4 * (NJY_ZERO_POINT - magnitude))
    found = rng.random(n) < 0.8
    measured = np.where(found, true * 1.05 + 20 * rng.standard_normal(n), np.nan)
    columns = {
        "kind": [kind] * n,
        "magnitude": magnitude,
        "weight": np.where(magnitude > 20.5, 3.0, 1.0),
        "found": found,
        "extra": (rng.random(n) < 0.1).astype(int),
        "dx": np.where(found, 0.02 + 0.01 * rng.standard_normal(n), np.nan),
        "dy": np.where(found, 0.01 * rng.standard_normal(n), np.nan),
        "true_flux_i": true,
        "flux_i": measured,
        "flux_err_i": np.full(n, 10.0),
    }
    return pa.table(columns)


def test_a_bin_gives_back_bias_pull_and_astrometry():
    n = 4000
    scored = score_bin(table(n, np.random.default_rng(1)), 20, 21, ("i",))
    assert scored.n == n
    assert scored.completeness == pytest.approx(0.8, abs=3 * scored.completeness_err)
    # Weights 1 and 3, half of each: the effective number is 0.8 n.
    assert scored.completeness_err == pytest.approx(np.sqrt(0.16 / (0.8 * n)), rel=0.1)
    assert scored.purity == pytest.approx(0.8 / 0.9, abs=0.01)
    assert scored.bands["i"].bias == pytest.approx(0.05, abs=0.001)
    assert scored.offset[0] == pytest.approx(20, abs=1)
    assert scored.position_scatter == pytest.approx(10, rel=0.05)


def test_a_color_is_wrong_by_what_its_bands_are():
    rows = table(4000, np.random.default_rng(3))
    for name in ("flux", "true_flux", "flux_err"):
        rows = rows.append_column(f"{name}_z", rows[f"{name}_i"])
    too_bright = pa.array(1.1 * rows["flux_z"].to_numpy())
    rows = rows.set_column(rows.column_names.index("flux_z"), "flux_z", too_bright)
    scored = score_bin(rows, 20, 21, ("i", "z"))
    assert scored.colors == {"i-z": pytest.approx(2.5 * np.log10(1.1), abs=1e-9)}


def test_a_pull_width_is_known_to_its_error():
    rng = np.random.default_rng(2)
    rows = table(2000, rng)
    true = rows["true_flux_i"].to_numpy()
    widths = []
    for _ in range(30):
        flux = true + 20 * rng.standard_normal(2000)
        drawn = rows.set_column(rows.column_names.index("flux_i"), "flux_i", pa.array(flux))
        scored = score_bin(drawn, 20, 21, ("i",)).bands["i"]
        widths.append(scored.pull_width)
    assert np.mean(widths) == pytest.approx(2, abs=0.03)
    assert np.std(widths) == pytest.approx(scored.pull_width_err, rel=0.4)


def test_a_weight_is_as_many_values():
    rng = np.random.default_rng(4)
    values, times = rng.normal(3, 2, 500), rng.integers(1, 5, 500)
    repeated = np.repeat(values, times)
    assert middle(values, times) == pytest.approx(np.median(repeated), abs=0.02)
    off = np.abs(repeated - np.median(repeated))
    assert spread(values, times) == pytest.approx(1.4826 * np.median(off), abs=0.02)
    assert middle(values[:7], np.ones(7)) == np.median(values[:7])


@pytest.mark.parametrize("n", [4, 5, 8, 15])
def test_few_values_spread_as_many_do(n):
    draws = np.random.default_rng(5).standard_normal((4000, n))
    assert np.mean([spread(each) for each in draws]) == pytest.approx(1, abs=0.1)


def test_of_nothing_nothing_is_known():
    nothing = np.full(3, np.nan)
    assert np.isnan([spread(nothing), spread(np.ones(1)), middle(nothing, nothing)]).all()


def test_controls_do_not_tell_the_limit():
    controls = table(100, np.random.default_rng(3), "control star")
    assert half_complete(controls, ("i",)) == {}
