"""Which galaxies have more bulge than usual."""

from dataclasses import replace

import galsim
import numpy as np
import pytest

from raydeblend.deblend.joint.bulges import choose_bulges
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.deblend.joint.find import fit_together
from raydeblend.deblend.joint.settings import Limit
from raydeblend.fit.priors import BulgeDiskPriors

SCALE, SIZE, N = 0.168, 72, 12
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
PSF = np.stack([SEEING.drawImage(nx=41, ny=41, scale=SCALE).array] * 3)
COLORS = np.array([0.7, 1.0, 1.2])
JOINT = JointDeblender.load("cpu")
SNR = 100


def galaxies(profile: galsim.GSObject) -> tuple[np.ndarray, np.ndarray]:
    """Return N images of a galaxy of unlike shapes and noise, and the true fluxes ``(n, 3)``."""
    rng = np.random.default_rng(1)
    images, fluxes = [], []
    for _ in range(N):
        galaxy = profile.shear(g=rng.uniform(0, 0.3), beta=rng.uniform(0, np.pi) * galsim.radians)
        image = galsim.Convolve(galaxy, SEEING).drawImage(nx=SIZE, ny=SIZE, scale=SCALE).array
        flux = SNR / np.sqrt(3 * (image**2).sum()) * COLORS
        images.append(flux[:, None, None] * image + rng.normal(size=(3, SIZE, SIZE)))
        fluxes.append(flux)
    return np.array(images, dtype=np.float32), np.array(fluxes)


def fitted(images: np.ndarray):
    """Return stamps, and fits that expect usual bulges."""
    stamps, _ = JOINT.make_stamps(images, np.ones_like(images), None, PSF, SCALE)
    middle = [np.full((1, 2), (SIZE - 1) / 2)] * N
    return stamps, fit_together(stamps, middle, JOINT.settings)


def bias(fits, fluxes: np.ndarray) -> float:
    return float(np.median([fit.total[:, 0] for fit in fits] / fluxes - 1))


@pytest.mark.parametrize("index", [2.5, 4])
def test_a_bulge_keeps_its_flux(index: float) -> None:
    images, fluxes = galaxies(galsim.Sersic(index, half_light_radius=0.4))
    stamps, usual = fitted(images)
    chosen = choose_bulges(stamps, usual, JOINT.settings)
    assert bias(usual, fluxes) < -0.03
    assert abs(bias(chosen, fluxes)) < 0.03
    assert all(new.objective <= old.objective for new, old in zip(chosen, usual, strict=True))


def test_a_disk_stays_a_disk() -> None:
    images, fluxes = galaxies(galsim.Exponential(half_light_radius=0.4))
    stamps, usual = fitted(images)
    chosen = choose_bulges(stamps, usual, JOINT.settings)
    assert not np.concatenate([fit.bulge for fit in chosen]).any()
    assert abs(bias(chosen, fluxes)) < 0.03


def test_a_rare_galaxy_must_be_worth_it() -> None:
    """The objective of a larger bulge holds −ln of its rarity: nothing is below an endless one."""
    images, _ = galaxies(galsim.DeVaucouleurs(half_light_radius=0.4))
    stamps, usual = fitted(images)
    never = replace(JOINT.settings, priors=BulgeDiskPriors(bulge_penalty=1e9))
    chosen = choose_bulges(stamps, usual, never)
    assert not np.concatenate([fit.bulge for fit in chosen]).any()


def crowd():
    """Return eight de Vaucouleurs galaxies, more than are fitted at once, and their fit."""
    centers = np.array([[12 + 16 * i, 20 + 30 * j] for i in range(4) for j in range(2)], float)
    galaxy = galsim.Convolve(galsim.DeVaucouleurs(half_light_radius=0.4, flux=3000), SEEING)
    image = sum(
        galaxy.drawImage(nx=SIZE, ny=SIZE, scale=SCALE, offset=xy - (SIZE - 1) / 2).array
        for xy in centers
    )
    image = image + np.random.default_rng(2).normal(size=(3, SIZE, SIZE))
    images = image[None].astype(np.float32)
    stamps, _ = JOINT.make_stamps(images, np.ones_like(images), None, PSF, SCALE)
    return stamps, fit_together(stamps, [centers], JOINT.settings)


def test_a_trial_that_fails_leaves_a_crowd_as_it_was() -> None:
    stamps, (usual,) = crowd()
    theta, flux = usual.theta.copy(), usual.flux.copy()
    never = replace(JOINT.settings, priors=BulgeDiskPriors(bulge_penalty=1e9))
    (kept,) = choose_bulges(stamps, [usual], never)
    assert kept.work > usual.work
    np.testing.assert_array_equal(kept.theta, theta)
    np.testing.assert_array_equal(kept.flux, flux)


def test_it_ends_at_the_limit_of_the_work_and_leaves_the_rest_to_others() -> None:
    stamps, (usual,) = crowd()
    limited = replace(JOINT.settings, limit=Limit(1.01 * usual.work))
    (free,) = choose_bulges(stamps, [usual], JOINT.settings)
    (ended,) = choose_bulges(stamps, [usual], limited)
    assert ended.work < free.work
    assert not ended.limited
    assert ended.bulge.sum() < free.bulge.sum()


def test_an_empty_blend_has_none() -> None:
    stamps, _ = JOINT.make_stamps(*[np.ones((1, 3, 40, 40), np.float32)] * 2, None, PSF, SCALE)
    fits = fit_together(stamps, [np.zeros((0, 2))], JOINT.settings)
    (fit,) = choose_bulges(stamps, fits, JOINT.settings)
    assert len(fit.theta) == 0
