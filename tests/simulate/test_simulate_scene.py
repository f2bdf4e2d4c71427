import galsim
import numpy as np
import pytest
from astropy import units
from astropy.modeling.models import BlackBody
from astropy.wcs import WCS
from scipy.integrate import cumulative_trapezoid

from raydeblend.simulate.galaxies import half_light_radius
from raydeblend.simulate.scene import CENTER, Grid
from raydeblend.simulate.stars import disk_counts, draw_stars, planck, spheroid_counts
from raydeblend.survey import get_survey
from raydeblend.tile import Box

HSC = get_survey("HSC")


def test_the_grid_is_near_square_on_one_tangent_plane():
    grid = Grid(n_tiles=5, size=100, overlap=20, pixel_scale=0.168)
    assert grid.columns == 3
    assert [grid.name(tile) for tile in range(5)] == [
        "r00c00", "r00c01", "r00c02", "r01c00", "r01c01",
    ]  # fmt: skip
    assert grid.extent == Box(0, 0, 180, 260)
    # One point of the sky, seen from three tiles that hold it.
    sky = [
        WCS(grid.wcs_header(grid.box(tile))).wcs_pix2world([[170 - x0, 90 - y0]], 0)[0]
        for tile, y0, x0 in ((1, 0, 80), (2, 0, 160), (4, 80, 80))
    ]
    assert np.ptp(sky, axis=0) == pytest.approx([0, 0], abs=1e-12)
    middle = WCS(grid.wcs_header(grid.extent)).wcs_pix2world([[129.5, 89.5]], 0)[0]
    assert middle == pytest.approx(CENTER)


@pytest.mark.parametrize("bulge", [0.0, 0.25, 0.8, 1.0])
def test_half_light_radius_against_the_profiles_of_galsim(bulge):
    disk = galsim.Exponential(half_light_radius=0.8, flux=1 - bulge)
    spheroid = galsim.DeVaucouleurs(half_light_radius=0.4, flux=bulge)
    r = np.geomspace(1e-6, 100, 3000)
    brightness = [
        sum(part.xValue(galsim.PositionD(radius, 0)) for part in (disk, spheroid) if part.flux)
        for radius in r
    ]
    inside = cumulative_trapezoid(2 * np.pi * r * np.array(brightness), r, initial=0)
    measured = np.interp(0.5, inside, r)
    ours = half_light_radius(np.array([0.8]), np.array([0.4]), np.array([bulge]))
    assert ours[0] == pytest.approx(measured, rel=0.002)


def test_planck_against_astropy():
    wavelengths = np.array([480.0, 620.0, 770.0])
    for temperature in (3000.0, 5772.0):
        reference = BlackBody(temperature * units.K)(wavelengths * units.nm)
        ours = planck(wavelengths, np.array(temperature))
        assert ours / ours[0] == pytest.approx((reference / reference[0]).value, rel=1e-5)


def test_star_counts_of_cosmos():
    """Evaluated by hand from the published formula at V = 20, l = 236.8, b = 42.1 (per deg²).

    Disk: 925 x 10^(0.035 x 4.25) / (1 + 10^(-0.132 x 4.25))^3
    / (0.67043 x (1 + 0.09 x 0.54756 / 0.90359))^2.8 = 1663.
    Spheroid: 1050 x 10^(0.087 x 2.5) / (1 + 10^(-0.18 x 2.5))^2.5 / 1.40628^1.53126 = 481.
    """
    assert disk_counts(np.array([20.0]))[0] == pytest.approx(1663, rel=0.01)
    assert spheroid_counts(np.array([20.0]))[0] == pytest.approx(481, rel=0.01)


def test_drawn_stars_follow_the_counts_and_the_colors_of_dwarfs():
    area = 4000.0
    fluxes = draw_stars(area, HSC, ("g", "r", "i"), np.random.default_rng(0))
    limits = np.array([17.0, 27.0])
    expected = np.diff(disk_counts(limits) + spheroid_counts(limits))[0] * area / 3600
    assert len(fluxes) == pytest.approx(expected, abs=4 * expected**0.5)
    g, r, i = (31.4 - 2.5 * np.log10(fluxes)).T
    # The stellar locus of Covey et al. 2007: g - r from 0.3 to 1.5 from F to M dwarfs.
    assert np.percentile(g - r, [1, 99]) == pytest.approx([0.3, 1.5], abs=0.15)
    assert ((r - i) > 0).all()
