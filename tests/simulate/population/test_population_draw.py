"""The population against COSMOS itself: the galaxies that the mixture was not fitted to."""

from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.table import Table

from raydeblend.simulate.population.draw import (
    Fractions,
    draw_realistic,
    draw_smooth,
    on_grid,
    with_bulge,
)
from raydeblend.simulate.population.field import draw_magnitudes
from raydeblend.simulate.population.galaxies import N_GRID
from raydeblend.simulate.population.stamps import find_stamps

CATALOG = Path(__file__).parents[4] / "shared/data/catalogs/cosmos_sersic_f814w_23.5.fits"
BANDS = ("g", "r", "i")


def draw(low, high, n=6000, seed=0, bands=BANDS):
    rng = np.random.default_rng(seed)
    return draw_smooth(rng.uniform(low, high, n), bands, rng)


@pytest.fixture(scope="module")
def held_out():
    """i, r50 (arcsec), n, g-r, r-i of the odd galaxies of COSMOS."""
    if not CATALOG.exists():
        pytest.skip("needs ../shared")
    t = Table.read(CATALOG)
    t = t[(t["ID"] % 2 == 1) & (t["SUBARU_G"] > 0) & (t["SUBARU_R"] > 0) & (t["sersic_n"] > 0.2)]
    radius = 0.17 * np.array(t["reff_pix"]) * np.sqrt(np.array(t["b_a"]))
    g, r, i = (np.array(t[f"SUBARU_{b}"], dtype=float) for b in "GRI")
    return np.stack([i, radius, np.array(t["sersic_n"]), g - r, r - i])


@pytest.mark.parametrize(("low", "high"), [(20.0, 21.0), (21.0, 22.0), (22.0, 23.0)])
def test_sizes_indices_and_colors_are_those_of_cosmos(held_out, low, high):
    i, radius, n, gr, ri = held_out
    true = (i >= low) & (i < high)
    # The same magnitudes within the bin: sizes change by a fifth across it.
    rng = np.random.default_rng(4)
    drawn = draw_smooth(rng.choice(i[true], 6000), BANDS, rng)
    for quantile in (0.16, 0.5, 0.84):
        assert np.quantile(drawn.r50, quantile) == pytest.approx(
            np.quantile(radius[true], quantile), rel=0.1
        )
        assert np.quantile(drawn.index, quantile) == pytest.approx(
            np.quantile(n[true], quantile), rel=0.2
        )
    mags = drawn.magnitude
    assert np.median(mags[:, 0] - mags[:, 1]) == pytest.approx(np.median(gr[true]), abs=0.05)
    assert np.median(mags[:, 1] - mags[:, 2]) == pytest.approx(np.median(ri[true]), abs=0.05)
    # Colors go together, and red galaxies are concentrated.
    ours = np.corrcoef(mags[:, 0] - mags[:, 1], mags[:, 1] - mags[:, 2])[0, 1]
    assert ours == pytest.approx(np.corrcoef(gr[true], ri[true])[0, 1], abs=0.12)
    assert np.corrcoef(mags[:, 0] - mags[:, 1], np.log(drawn.index))[0, 1] == pytest.approx(
        np.corrcoef(gr[true], np.log(n[true]))[0, 1], abs=0.1
    )


def test_flat_profiles_are_as_many_as_in_cosmos():
    """18 to 31 % of COSMOS galaxies of i = 21 to 23.5 have n < 0.75."""
    rng = np.random.default_rng(6)
    i = draw_magnitudes(60_000, 23.5, rng)
    galaxies = draw_smooth(i[i > 21][:6000], BANDS, rng)
    assert 0.18 < (galaxies.index < 0.75).mean() < 0.31


def test_faint_galaxies_are_as_small_as_in_galsim_s_faint_sample():
    """Flux radii of 0.19" (median) at 24 < i < 26, the telescope's PSF of 0.06" included."""
    behind = np.hypot(draw(24.0, 26.0).r50, 0.06)
    assert np.median(behind) == pytest.approx(0.19, abs=0.02)


def test_colors_of_all_bands_and_redshifts_go_together():
    galaxies = draw(21.0, 22.5, bands=("u", "g", "r", "i", "z", "y"))
    colors = -np.diff(galaxies.magnitude, axis=1)
    assert np.corrcoef(colors[:, 2], colors[:, 3])[0, 1] > 0.4
    assert np.corrcoef(galaxies.redshift, colors[:, 2])[0, 1] > 0.3
    assert 0.4 < np.median(galaxies.redshift) < 0.8


def test_an_asked_index_is_kept_and_others_are_on_the_grid():
    rng = np.random.default_rng(0)
    asked = draw_smooth(np.full(50, 21.0), BANDS, rng, np.full(50, 4.0))
    assert (asked.index == 4.0).all()
    assert on_grid(np.array([0.1, 0.52, 9.0])).tolist() == [0.3, 0.5, 6.0]
    assert np.isin(draw(20, 23, 300).index, N_GRID).all()


def test_bulge_and_disk_keep_the_half_light_radius_and_redden_inward():
    rng = np.random.default_rng(3)
    galaxies = draw_smooth(np.full(20, 21.0), BANDS, rng, np.full(20, 3.0))
    galaxies.g[:] = 0
    with_bulge(galaxies, np.arange(20), rng)
    assert (galaxies.bulge_fraction[:, 0] <= galaxies.bulge_fraction[:, 2]).all()
    assert (galaxies.bulge_fraction[:, 0] < galaxies.bulge_fraction[:, 2]).any()
    for row in range(3):
        photons = galsim.PhotonArray(100_000)
        galaxies.profile(row, 2)._shoot(photons, galsim.BaseDeviate(row + 1))
        measured = np.median(np.hypot(photons.x, photons.y))
        assert measured == pytest.approx(galaxies.r50[row], rel=0.02)


def test_without_images_clumpy_galaxies_stand_for_real_ones():
    rng = np.random.default_rng(1)
    nothing = find_stamps(None, "train")
    galaxies = draw_realistic(rng.uniform(20, 25, 2000), BANDS, rng, nothing, Fractions(real=0.3))
    bright = galaxies.magnitude[:, 2] < 24
    assert (galaxies.kind[bright] == "clumpy").mean() == pytest.approx(0.3, abs=0.04)
    assert not (galaxies.kind[~bright] == "clumpy").any()
    row = int(np.flatnonzero(galaxies.kind == "clumpy")[0])
    assert galaxies.profile(row, 0) == galaxies.profile(row, 0)
    assert galaxies.profile(row, 0).flux == pytest.approx(1)
