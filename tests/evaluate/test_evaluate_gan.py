"""The comparison of drawn with real galaxies, on galaxies whose likeness is known."""

import numpy as np
import pytest

from raydeblend.evaluate.figures import read_caption
from raydeblend.evaluate.gan import (
    QUANTITIES,
    SIGNIFICANT,
    Drawn,
    compare,
    comparison_table,
    distribution_figure,
    draw_generated,
    draw_real,
    measure,
    sample_figure,
)
from raydeblend.simulate.sky_stamps import StampConfig

TRAINED = StampConfig(("F814W",), 64, 3000, 22.5, 0, None)


@pytest.fixture(scope="module")
def real() -> Drawn:
    return draw_real(80, 1, TRAINED, None)


def test_the_same_galaxies_seen_anew_are_alike(real: Drawn) -> None:
    rows = compare(real, draw_real(80, 2, TRAINED, None))
    assert [row["quantity"] for row in rows] == list(QUANTITIES)
    # Six tests of a true hypothesis: none below one in a thousand.
    assert all(float(row["ks_probability"]) > 1e-3 for row in rows)


def test_brighter_or_rounder_galaxies_are_told_apart(real: Drawn) -> None:
    brighter = {row["quantity"]: row for row in compare(measure(4 * real.images), real)}
    assert float(brighter["flux"]["ks_probability"]) < 1e-3
    gain = float(brighter["flux"]["median_generated"]) - float(brighter["flux"]["median_real"])
    assert gain == pytest.approx(np.log10(4), abs=0.1)
    turned = measure((real.images + np.rot90(real.images, axes=(1, 2))) / 2)
    rounder = {row["quantity"]: row for row in compare(turned, real)}
    assert float(rounder["ellipticity"]["ks_probability"]) < SIGNIFICANT


def test_the_shipped_generator_draws_galaxies(real: Drawn) -> None:
    generated, trained = draw_generated(64, seed=0)
    assert generated.images.shape == (64, 64, 64)
    assert trained.bands == ("F814W",)
    assert len(generated.measured["flux"]) > 58
    again, _ = draw_generated(64, seed=0)
    assert np.array_equal(generated.images, again.images)


def test_table_and_figures_carry_every_quantity(real: Drawn) -> None:
    rows = compare(real, real)
    table = comparison_table(rows)
    assert table.count("| yes") == len(QUANTITIES)
    assert "generated" in read_caption(distribution_figure(real, real, rows))
    assert "arcsinh" in read_caption(sample_figure(real, real))
