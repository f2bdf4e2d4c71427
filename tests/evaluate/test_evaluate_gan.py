"""The comparison of drawn with real galaxies, on galaxies whose likeness is known."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from raydeblend.errors import ConfigError
from raydeblend.evaluate.common.figures import read_caption
from raydeblend.evaluate.gan import (
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
from raydeblend.measure.distributions import QUANTITIES
from raydeblend.simulate.sky_stamps import StampConfig

TRAINED = StampConfig(("F814W",), 64, 3000, 22.5, 0, None)


@pytest.fixture(scope="module")
def real() -> Drawn:
    return draw_real(80, 1, TRAINED, None, pairs=2)


def test_the_same_galaxies_seen_anew_are_alike(real: Drawn) -> None:
    rows = compare(real, draw_real(80, 2, TRAINED, None, pairs=2))
    assert [row["quantity"] for row in rows] == list(QUANTITIES)
    # Six tests of a true hypothesis: none below one in a thousand.
    assert all(float(row["ks_probability"]) > 1e-3 for row in rows)
    assert np.mean([float(row["alike"]) for row in rows]) > 0.7
    # Other galaxies in each sample.
    assert not np.array_equal(real.measured[0]["flux"], real.measured[1]["flux"])


def test_brighter_or_rounder_galaxies_are_told_apart(real: Drawn) -> None:
    brighter = {row["quantity"]: row for row in compare(measure(4 * real.images), real)}
    assert float(brighter["flux"]["ks_probability"]) < 1e-3
    gain = float(brighter["flux"]["median_generated"]) - float(brighter["flux"]["median_real"])
    assert gain == pytest.approx(np.log10(4), abs=0.1)
    turned = measure((real.images + np.rot90(real.images, axes=(2, 3))) / 2)
    rounder = {row["quantity"]: row for row in compare(turned, real)}
    assert float(rounder["ellipticity"]["ks_probability"]) < SIGNIFICANT


def test_the_shipped_generator_draws_galaxies(real: Drawn) -> None:
    generated, trained = draw_generated(32, seed=0, pairs=2)
    assert generated.images.shape == (2, 32, 64, 64)
    assert trained.bands == ("F814W",)
    assert len(generated.all("flux")) > 58
    again, _ = draw_generated(32, seed=0, pairs=2)
    assert np.array_equal(generated.images, again.images)
    # The noise of the sky is there once, drawn by the network or added.
    edge = generated.images[:, :, :4].reshape(64, -1)
    assert np.median(edge.std(axis=1)) == pytest.approx(1, abs=0.15)


def write_galaxy(folder: Path, number: int) -> str:
    """Write a folder of one real galaxy: a round Gaussian of 22.4 mag."""
    y, x = np.indices((80, 80)) - 39.5
    image = 3.0 * np.exp(-(x**2 + y**2) / 50) + np.random.default_rng(0).normal(0, 0.02, x.shape)
    fits.writeto(folder / "galaxy.fits", image.astype(np.float32))
    row = (str(number), "F814W", "galaxy.fits", 0.06, 29.0)
    names = ("galaxy", "band", "image", "pixel_scale", "zeropoint")
    Table(rows=[row], names=names).write(folder / "catalog.ecsv")
    return str(folder)


def test_only_real_galaxies_for_tests_are_shown(tmp_path: Path) -> None:
    seen = draw_real(16, 0, TRAINED, write_galaxy(tmp_path, number=8), pairs=2)
    assert seen.images.shape == (2, 16, 64, 64)
    # Of one round galaxy, the last quarter of each sample is round.
    assert all(values["ellipticity"][-4:].max() < 0.1 for values in seen.measured)
    trained = tmp_path / "trained"
    trained.mkdir()
    with pytest.raises(ConfigError, match="no galaxy for tests"):
        draw_real(16, 0, TRAINED, write_galaxy(trained, number=3), pairs=1)


def test_table_and_figures_carry_every_quantity(real: Drawn) -> None:
    rows = compare(real, real)
    assert [line[-1] for line in comparison_table(rows).rows] == ["yes"] * len(QUANTITIES)
    assert "generated" in read_caption(distribution_figure(real, real, rows))
    assert "arcsinh" in read_caption(sample_figure(real, real))
