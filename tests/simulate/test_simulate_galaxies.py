import galsim
import numpy as np
import pytest
from astropy.table import Table
from scipy.integrate import quad
from scipy.optimize import brentq

from raydeblend.errors import ConfigError
from raydeblend.simulate.galaxies import draw_galaxies, faint_limit, profile, read_catsim

BANDS = ("g", "r", "i")


@pytest.fixture(scope="module")
def galaxies():
    return draw_galaxies(20_000, BANDS, np.random.default_rng(0), faint=25.0)


def test_counts_have_the_published_slope_and_density(galaxies) -> None:
    i = galaxies.magnitude[:, 2]
    assert (i < 24).mean() == pytest.approx(10**-0.31, rel=0.03)
    assert faint_limit(46) == 25
    # LSST's gold sample, i < 25.3, has 55 galaxies per square arcminute.
    assert faint_limit(55) == pytest.approx(25.3, abs=0.1)


def test_redshifts_follow_z_squared_exponential(galaxies) -> None:
    near = np.abs(galaxies.magnitude[:, 2] - 24) < 0.2
    z0 = 0.0417 * 24 - 0.744
    assert galaxies.redshift[near].mean() == pytest.approx(3 * z0, rel=0.05)


def test_disk_sizes_have_the_published_median_and_spread(galaxies) -> None:
    near = np.abs(galaxies.magnitude[:, 2] - 24) < 0.1
    g = np.hypot(*galaxies.disk_g[near].T)
    major = galaxies.disk_radius[near] / 1.678 / np.sqrt((1 - g) / (1 + g))
    assert np.median(major) == pytest.approx(np.exp(-1.145 - 0.269), rel=0.04)

    def weight(r: float) -> float:
        return r * np.exp(-(r ** (4 / 3)))

    # The ratio of mean to median is a property of p(r) alone.
    total = quad(weight, 0, 30)[0]
    mean = quad(lambda r: r * weight(r), 0, 30)[0] / total
    median = brentq(lambda m: quad(weight, 0, m)[0] / total - 0.5, 0.1, 5)
    assert major.mean() / np.median(major) == pytest.approx(mean / median, rel=0.04)


def test_shapes_are_isotropic_and_below_one(galaxies) -> None:
    assert np.abs(galaxies.disk_g.mean(axis=0)).max() < 0.01
    assert np.hypot(*galaxies.disk_g.T).max() <= 0.804


def test_a_seed_reproduces_the_population() -> None:
    first, second = (draw_galaxies(5, BANDS, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.magnitude, second.magnitude)


def test_profile_has_unit_flux_and_the_radii_of_the_table(galaxies) -> None:
    row = int(np.flatnonzero(galaxies.bulge_fraction[:, 0] == 1)[0])
    bulge = profile(galaxies, row, 0)
    assert bulge.flux == pytest.approx(1)
    round_bulge = galsim.DeVaucouleurs(half_light_radius=galaxies.bulge_radius[row])
    assert bulge.original.half_light_radius == pytest.approx(round_bulge.half_light_radius)


def catsim(path: str, **columns: list[float]) -> str:
    defaults = {
        "a_d": [0.4], "b_d": [0.1], "a_b": [0.0], "b_b": [0.0], "pa_disk": [90.0],
        "pa_bulge": [90.0], "fluxnorm_disk": [3e-20], "fluxnorm_bulge": [0.0],
        "redshift": [0.5], "g_ab": [24.5], "r_ab": [24.2], "i_ab": [24.0],
    }  # fmt: skip
    Table(defaults | columns).write(path)
    return path


def test_catsim_rows_become_disks_with_circularised_radii(tmp_path) -> None:
    table = read_catsim(catsim(str(tmp_path / "c.fits")), BANDS)
    assert table.disk_radius[0] == pytest.approx(0.2)
    # q = 1/4 is a reduced shear of 0.6; 90 degrees points along y.
    np.testing.assert_allclose(table.disk_g[0], [-0.6, 0], atol=1e-7)
    np.testing.assert_allclose(table.magnitude[0], [24.5, 24.2, 24.0])


def test_faint_rows_and_unknown_tables_are_refused(tmp_path) -> None:
    path = catsim(str(tmp_path / "c.fits"), i_ab=[25.9])
    assert len(read_catsim(path, BANDS)) == 0
    with pytest.raises(ConfigError, match="no band 'H'"):
        read_catsim(path, ("H",))
    other = str(tmp_path / "other.fits")
    Table({"ra": [1.0], "i_ab": [20.0]}).write(other)
    with pytest.raises(ConfigError, match="not a CatSim catalog"):
        read_catsim(other, BANDS)
