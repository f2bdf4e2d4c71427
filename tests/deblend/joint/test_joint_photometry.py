"""Sizes and shapes that the joint fit reports: of disk and bulge together, against GalSim."""

import galsim
import numpy as np
import pytest
from scipy.optimize import brentq

from raydeblend.deblend.joint.config import JointConfig, PhotometryConfig
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.joint.photometry import _shapes

SCALE, SIZE = 0.168, 56
SEEING = galsim.Kolmogorov(fwhm=0.7)
PSF = np.stack([SEEING.drawImage(nx=41, ny=41, scale=SCALE).array] * 3)
JOINT = JointDeblender()


def observe(profile, snr, rng, offset=(0.0, 0.0)):
    clean = galsim.Convolve(profile, SEEING).drawImage(nx=SIZE, ny=SIZE, scale=SCALE, offset=offset)
    image = clean.array * snr / np.sqrt(3 * (clean.array**2).sum())
    return image + rng.normal(size=(3, SIZE, SIZE))


def deblend(images, joint=JOINT, **options):
    images = np.asarray(images, dtype=np.float32)
    return joint(images, variance=np.ones_like(images), psf=PSF, pixel_scale=SCALE, **options)


def bulge_and_disk(g1, bulge, bulge_g1=None):
    disk = galsim.Exponential(half_light_radius=0.5, flux=1 - bulge).shear(g1=g1, g2=0)
    center = galsim.DeVaucouleurs(half_light_radius=0.3, flux=bulge)
    return disk + center.shear(g1=g1 if bulge_g1 is None else bulge_g1, g2=0)


def test_a_disk_s_size_is_its_second_moment():
    theta = np.array([[0, 0, 0.2, -0.1, np.log(0.4), np.log(0.2), 0, 0]], dtype=float)
    t, g1, g2 = _shapes(theta, np.array([[1.0, 0.0]]), np.array([0.4]))[:, 0]
    assert (g1, g2) == pytest.approx((0.2, -0.1))
    disk = galsim.Exponential(half_light_radius=0.4).shear(g1=0.2, g2=-0.1)
    image = disk.drawImage(nx=201, ny=201, scale=0.05, method="no_pixel").array
    y, x = (np.indices(image.shape) - 100) * 0.05
    assert t == pytest.approx((image * (x**2 + y**2)).sum() / image.sum(), rel=0.01)


def test_disk_and_bulge_count_by_their_light():
    theta = np.array([[0, 0, 0.4, 0.0, np.log(0.4), np.log(0.4), 0.0, 0.2]])
    t, g1, g2 = _shapes(theta, np.array([[0.75, 0.25]]), np.array([0.4]))[:, 0]
    assert (g1, g2) == pytest.approx((0.3, 0.05))
    square = 0.3**2 + 0.05**2
    assert t == pytest.approx(2.13004 * 0.4**2 * (1 + square) / (1 - square), rel=1e-5)


@pytest.mark.parametrize(("bulge", "most"), [(0.0, 0.03), (0.15, 0.05), (0.5, 0.06)])
def test_galaxies_with_a_bulge_are_not_measured_too_round(bulge, most):
    rng, shears = np.random.default_rng(7), (-0.4, -0.25, 0.25, 0.4)
    true = np.repeat(shears, 6)
    images = [observe(bulge_and_disk(g, bulge), 100, rng, rng.uniform(-0.5, 0.5, 2)) for g in true]
    middle = np.full((1, 2), (SIZE - 1) / 2)
    result = deblend(images, xy=[middle] * len(images))
    measured = result.extra["g1"][:, 0]
    assert abs(measured @ true / (true @ true) - 1) < most
    assert np.abs(np.median(result.extra["g2"][:, 0])) < 0.02


def test_a_round_bulge_is_seen_to_be_round():
    rng = np.random.default_rng(8)
    images = [observe(bulge_and_disk(0.4, 0.5, 0.0), 300, rng) for _ in range(6)]
    result = deblend(images, xy=[np.full((1, 2), (SIZE - 1) / 2)] * 6)
    assert 0.15 < np.median(result.extra["g1"][:, 0]) < 0.3


def test_peaks_that_a_neighbor_pulls_over_do_not_hold_the_sources():
    rng = np.random.default_rng(9)
    xy = np.array([[25.0, 27.5], [29.6, 27.5]])
    round_galaxy = galsim.Exponential(half_light_radius=0.35)
    pairs = [
        observe(
            round_galaxy.shift(*((xy[0] - 27.5) * SCALE))
            + 0.6 * round_galaxy.shift(*((xy[1] - 27.5) * SCALE)),
            150,
            rng,
        )
        for _ in range(8)
    ]
    result = deblend(pairs)
    assert result.n_sources.tolist() == [2] * 8
    np.testing.assert_allclose(np.median(result.xy[:, :2], 0), xy, atol=0.15)
    ratio = result.extra["flux"][:, 1].sum(1) / result.extra["flux"][:, 0].sum(1)
    assert np.median(ratio) == pytest.approx(0.6, abs=0.05)


@pytest.fixture(scope="module")
def repeated():
    """A bulge and disk in 120 fields of noise, by the fit with its own detection.

    Errors are those of noise alone, which is all that changes.
    """
    rng = np.random.default_rng(21)
    images = [observe(bulge_and_disk(0.2, 0.3), 60, rng) for _ in range(120)]
    noise = PhotometryConfig(own_fraction=0.0, faint_fraction=0.0)
    return deblend(images, JointDeblender(config=JointConfig(photometry=noise)))


def test_position_errors_are_the_scatter_of_positions(repeated):
    middle = (SIZE - 1) / 2
    covariance = repeated.extra["position_cov"][:, 0]
    offsets = repeated.xy[:, 0] - middle
    pulls = offsets / np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    assert 0.85 < pulls.std() < 1.15
    # A galaxy longer in x than in y is known better in y.
    assert np.mean(covariance[:, 0, 0] / covariance[:, 1, 1]) > 1.1


def test_fluxes_of_bands_scatter_together_as_their_covariances_say(repeated):
    flux, covariance = repeated.extra["flux"][:, 0], repeated.extra["flux_cov"][:, 0]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        told = covariance[:, a, b] / np.sqrt(covariance[:, a, a] * covariance[:, b, b])
        # Of 120 fields a correlation is known to 0.08.
        assert np.corrcoef(flux[:, a], flux[:, b])[0, 1] == pytest.approx(told.mean(), abs=0.25)
        difference = flux[:, a] - flux[:, b]
        error = np.sqrt(covariance[:, a, a] + covariance[:, b, b] - 2 * covariance[:, a, b])
        assert 0.8 < ((difference - difference.mean()) / error).std() < 1.2
    np.testing.assert_allclose(
        np.diagonal(covariance, axis1=1, axis2=2), repeated.extra["flux_err"][:, 0] ** 2
    )


def light_within(r, bulge):
    """Return the part of the light of `bulge_and_disk` within r, from exact Sérsic curves."""
    disk, center = galsim.Sersic(1, 0.5), galsim.Sersic(4, 0.3)
    inside = [part.calculateIntegratedFlux(r) for part in (disk, center)]
    return (1 - bulge) * inside[0] + bulge * inside[1]


@pytest.mark.parametrize("bulge", [0.0, 0.5])
def test_half_light_radius_and_bulge_are_those_of_a_bright_galaxy(bulge):
    rng = np.random.default_rng(22)
    galaxy = bulge_and_disk(0.1, bulge)
    result = deblend([observe(galaxy, 500, rng) for _ in range(8)])
    expected = brentq(lambda r: light_within(r, bulge) - 0.5, 0.1, 1.0)
    assert np.median(result.extra["r50"][:, 0]) == pytest.approx(expected, rel=0.05)
    # A steeper disk has a part of a bulge that is hardly smaller.
    assert bulge / 2 - 0.1 < np.median(result.extra["bulge_fraction"][:, 0]) < bulge + 0.1
    r50, t = result.extra["r50"][0, 0], result.extra["T"][0, 0]
    square = result.extra["g1"][0, 0] ** 2 + result.extra["g2"][0, 0] ** 2
    assert t == pytest.approx(2.13004 * r50**2 * (1 + square) / (1 - square), rel=1e-4)


def test_pulls_of_blended_galaxies_are_honest():
    """Pairs 4 to 8 pixels apart; neither their number nor their places are told."""
    rng = np.random.default_rng(11)
    images, truth = [], []
    for _ in range(40):
        apart = rng.uniform(4, 8) * np.exp(1j * rng.uniform(0, 2 * np.pi)) * SCALE / 2
        fluxes = rng.uniform(0.4, 1, 2)
        parts = []
        for flux, side in zip(fluxes, (-1, 1), strict=True):
            shape = 0.4 * np.sqrt(rng.uniform()) * np.exp(1j * rng.uniform(0, 2 * np.pi))
            disk = galsim.Exponential(half_light_radius=rng.uniform(0.2, 0.6), flux=flux)
            parts.append(disk.shear(g1=shape.real, g2=shape.imag))
            parts[-1] = parts[-1].shift(side * apart.real, side * apart.imag)
        seen = [
            galsim.Convolve(p, SEEING).drawImage(nx=SIZE, ny=SIZE, scale=SCALE).array for p in parts
        ]
        scale = 80 / np.sqrt(3 * (sum(seen) ** 2).sum())
        images.append(scale * sum(seen) + rng.normal(size=(3, SIZE, SIZE)))
        middle = (SIZE - 1) / 2
        places = [
            (middle + s * apart.real / SCALE, middle + s * apart.imag / SCALE) for s in (-1, 1)
        ]
        truth.append([(place, scale * flux) for place, flux in zip(places, fluxes, strict=True)])
    result = deblend(images)
    pulls = []
    for row, galaxies in enumerate(truth):
        found = result.xy[row, : result.n_sources[row]]
        for place, flux in galaxies:
            nearest = np.hypot(*(found - place).T).argmin()
            offset = result.extra["flux"][row, nearest] - flux
            pulls += list(offset / result.extra["flux_err"][row, nearest])
    scatter = 1.4826 * np.median(np.abs(pulls - np.median(pulls)))
    # Errors are calibrated on blends that are harder to tell apart: these are a fifth too large.
    assert 0.7 < scatter < 1.25
    assert (result.n_sources == 2).mean() > 0.85
