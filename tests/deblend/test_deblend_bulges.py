"""Which galaxies have more bulge than usual."""

import galsim
import numpy as np
import pytest
import torch

from raydeblend.deblend.bulges import choose_bulges
from raydeblend.deblend.joint import JointDeblender
from raydeblend.measure.joint_priors import JointPriors

SCALE, SIZE, N = 0.168, 72, 12
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)
PSF = np.stack([SEEING.drawImage(nx=41, ny=41, scale=SCALE).array] * 3)
COLOURS = np.array([0.7, 1.0, 1.2])
JOINT = JointDeblender.load("cpu")
SNR = 100


def galaxies(profile: galsim.GSObject) -> tuple[np.ndarray, np.ndarray]:
    """Return N images of a galaxy of unlike shapes and noise, and the true fluxes ``(n, 3)``."""
    rng = np.random.default_rng(1)
    images, fluxes = [], []
    for _ in range(N):
        galaxy = profile.shear(g=rng.uniform(0, 0.3), beta=rng.uniform(0, np.pi) * galsim.radians)
        image = galsim.Convolve(galaxy, SEEING).drawImage(nx=SIZE, ny=SIZE, scale=SCALE).array
        flux = SNR / np.sqrt(3 * (image**2).sum()) * COLOURS
        images.append(flux[:, None, None] * image + rng.normal(size=(3, SIZE, SIZE)))
        fluxes.append(flux)
    return np.array(images, dtype=np.float32), np.array(fluxes)


def fitted(images: np.ndarray):
    """Return stamps, and fits that expect usual bulges."""
    stamps, _ = JOINT._stamps(images, np.ones_like(images), None, PSF, SCALE)
    middle = [np.full((1, 2), (SIZE - 1) / 2)] * N
    return stamps, JOINT._fit(stamps, middle, JOINT.priors)


def bias(fits, fluxes: np.ndarray) -> float:
    return float(np.median([fit.total[:, 0] for fit in fits] / fluxes - 1))


@pytest.mark.parametrize("index", [2.5, 4])
def test_a_bulge_keeps_its_flux(index: float) -> None:
    images, fluxes = galaxies(galsim.Sersic(index, half_light_radius=0.4))
    stamps, usual = fitted(images)
    chosen = choose_bulges(stamps, usual, JOINT.priors, torch.device("cpu"))
    assert bias(usual, fluxes) < -0.03
    assert abs(bias(chosen, fluxes)) < 0.03
    assert all(new.objective <= old.objective for new, old in zip(chosen, usual, strict=True))


def test_a_disk_stays_a_disk() -> None:
    images, fluxes = galaxies(galsim.Exponential(half_light_radius=0.4))
    stamps, usual = fitted(images)
    chosen = choose_bulges(stamps, usual, JOINT.priors, torch.device("cpu"))
    assert not np.concatenate([fit.bulge for fit in chosen]).any()
    assert abs(bias(chosen, fluxes)) < 0.03


def test_a_rare_galaxy_must_be_worth_it() -> None:
    """The objective of a larger bulge holds −ln of its rarity: nothing is below an endless one."""
    images, _ = galaxies(galsim.DeVaucouleurs(half_light_radius=0.4))
    stamps, usual = fitted(images)
    never = JointPriors(rare=1e9)
    chosen = choose_bulges(stamps, usual, never, torch.device("cpu"))
    assert not np.concatenate([fit.bulge for fit in chosen]).any()


def test_an_empty_blend_has_none() -> None:
    stamps, _ = JOINT._stamps(*[np.ones((1, 3, 40, 40), np.float32)] * 2, None, PSF, SCALE)
    fits = JOINT._fit(stamps, [np.zeros((0, 2))], JOINT.priors)
    (fit,) = choose_bulges(stamps, fits, JOINT.priors, torch.device("cpu"))
    assert len(fit.theta) == 0
