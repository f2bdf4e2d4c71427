"""Half-light radii of the whole, against exact Sérsic curves of growth and GalSim."""

import galsim
import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import gammainc

from raydeblend.fit.half_light import SERSIC, Components, exponential_t, half_light_radius

# b of P(2 n, b) = 1/2 for n = 1 and 4 (Ciotti & Bertin 1999).
B = {"exp": (1, 1.67835), "dev": (4, 7.66925)}


def exact(profiles, radius, shares):
    """Return the half-light radius from the regularized incomplete gamma function."""

    def excess(r):
        parts = zip(profiles, radius, shares, strict=True)
        curves = [
            s * gammainc(2 * B[name][0], B[name][1] * (r / own) ** (1 / B[name][0]))
            for name, own, s in parts
        ]
        return sum(curves) - 0.5

    return brentq(excess, 1e-4, 50)


@pytest.mark.parametrize("name", ["exp", "dev", "gauss"])
def test_a_single_component_has_its_own_radius(name):
    r50, slopes = half_light_radius(Components((name,), np.array([[0.37]]), np.ones((2, 1, 1))))
    assert r50[0] == pytest.approx(0.37, rel=1e-7)
    assert slopes.tolist() == [[1.0]]


@pytest.mark.parametrize("radius", [(0.6, 0.3), (0.3, 1.2), (0.5, 0.05)])
@pytest.mark.parametrize("bulge", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_bulge_and_disk_against_the_exact_curves_of_growth(radius, bulge):
    flux = np.array([[[1 - bulge, bulge]]])
    r50, _ = half_light_radius(Components(("exp", "dev"), np.array([radius]), flux))
    assert r50[0] == pytest.approx(exact(("exp", "dev"), radius, (1 - bulge, bulge)), rel=0.01)


def test_fluxes_of_all_bands_are_summed_and_those_not_measured_left_out():
    radius = np.array([[0.6, 0.2]])
    flux = np.array([[[30.0, 0.0]], [[10.0, 60.0]], [[np.nan, np.nan]]])
    whole, _ = half_light_radius(Components(("exp", "dev"), radius, flux))
    assert whole[0] == pytest.approx(exact(("exp", "dev"), radius[0], (0.4, 0.6)), rel=0.01)
    fraction = Components(("exp", "dev"), radius, flux).fraction(1)
    np.testing.assert_allclose(fraction, [[0, 6 / 7, np.nan]])


def test_slopes_are_those_of_differences():
    radius, flux = np.array([[0.6, 0.25]]), np.array([[[0.7, 0.3]]])
    _, slopes = half_light_radius(Components(("exp", "dev"), radius, flux))
    for c in range(2):
        step = 0.01 * (np.arange(2) == c)
        ahead, behind = (
            half_light_radius(Components(("exp", "dev"), radius * np.exp(s * step), flux))[0]
            for s in (1, -1)
        )
        assert slopes[0, c] == pytest.approx(np.log(ahead / behind)[0] / 0.02, abs=1e-4)
    assert slopes.sum() == pytest.approx(1)


def test_no_light_has_no_size():
    r50, _ = half_light_radius(Components(("exp",), np.array([[0.3]]), np.array([[[-1.0]]])))
    assert np.isnan(r50[0])


def test_t_is_the_second_moment_of_a_sheared_exponential():
    disk = galsim.Exponential(half_light_radius=0.4).shear(g1=0.2, g2=-0.1)
    image = disk.drawImage(nx=201, ny=201, scale=0.05, method="no_pixel").array
    y, x = (np.indices(image.shape) - 100) * 0.05
    moment = (image * (x**2 + y**2)).sum() / image.sum()
    assert exponential_t(0.4, 0.2, -0.1) == pytest.approx(moment, rel=0.01)


@pytest.mark.parametrize("index", [0.6, 1.0, 2.5])
def test_a_disk_of_any_index_with_a_bulge(index):
    """Half of the light that GalSim's profiles have together is within it."""
    flux, radius = np.array([[[700.0, 300.0]]]), np.array([[0.6, 0.2]])
    log_index = np.log([index])
    (r50,), _ = half_light_radius(Components((SERSIC, "dev"), radius, flux, log_index))
    disk = galsim.Sersic(index, half_light_radius=0.6, flux=700)
    bulge = galsim.DeVaucouleurs(half_light_radius=0.2, flux=300)
    inside = disk.calculateHLR(flux_frac=0.5)  # of the disk alone: the radius is less
    assert r50 < inside
    r = np.linspace(0, r50, 4001)
    light = sum(
        np.trapezoid(2 * np.pi * r * np.array([p.xValue(x, 0) for x in r]), r)
        for p in (disk, bulge)
    )
    assert light == pytest.approx(500, rel=0.02)


def test_a_galaxy_among_others_has_the_same_size_to_the_last_bit():
    rng = np.random.default_rng(5)
    radius, flux = rng.uniform(0.05, 2, (40, 2)), rng.uniform(0, 1, (3, 40, 2))
    together, _ = half_light_radius(Components(("exp", "dev"), radius, flux))
    for k in range(40):
        own = Components(("exp", "dev"), radius[k : k + 1], flux[:, k : k + 1])
        assert half_light_radius(own)[0][0] == together[k]
