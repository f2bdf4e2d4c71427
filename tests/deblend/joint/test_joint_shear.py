"""The published responses to shear against shears: the same galaxies sheared both ways."""

from dataclasses import replace

import galsim
import numpy as np
import pytest
import torch

from raydeblend.deblend.joint.config import JointConfig, ShearConfig
from raydeblend.deblend.joint.deblender import JointDeblender
from raydeblend.fit.priors import BulgeDiskPriors

SCALE, SIZE, SHEAR = 0.168, 48, 0.02
SEEING = galsim.Kolmogorov(fwhm=0.6)
PSF = np.stack([SEEING.drawImage(nx=41, ny=41, scale=SCALE).array] * 3)
RADIUS = 0.4
# Of the right size and without a bulge, so that only shapes are held back.
PRIORS = replace(BulgeDiskPriors(), log_radius=float(np.log(RADIUS)), bulge=0.0, bulge_scatter=0.01)
CURVATURE = JointConfig(shear=ShearConfig(by_size_variance=0.0))
CPU = torch.device("cpu")


def observed(galaxies, shear, snr):
    """Return the noiseless image and the positions of galaxies ``(g1, g2, x, y, flux)``."""
    whole = galsim.Add(
        [
            galsim.Exponential(half_light_radius=RADIUS, flux=flux)
            .shear(g1=g1, g2=g2)
            .shift(x * SCALE, y * SCALE)
            for g1, g2, x, y, flux in galaxies
        ]
    )
    seen = galsim.Convolve(whole.shear(g1=shear[0], g2=shear[1]), SEEING)
    image = seen.drawImage(nx=SIZE, ny=SIZE, scale=SCALE).array
    image *= snr / np.sqrt(3 * (image**2).sum())
    matrix = galsim.Shear(g1=shear[0], g2=shear[1]).getMatrix()
    xy = np.array([matrix @ [x, y] for _, _, x, y, _ in galaxies]) + (SIZE - 1) / 2
    return np.stack([image] * 3), xy


def measure(galaxies, snr, priors=PRIORS, config=CURVATURE):
    """Return the change of the shapes ``(k, 2, 2)`` by a shear, their responses, and T_err / T."""
    joint = JointDeblender(CPU, priors=priors, config=config)
    shears = [(SHEAR, 0), (-SHEAR, 0), (0, SHEAR), (0, -SHEAR)]
    images, xy = zip(*(observed(galaxies, shear, snr) for shear in shears), strict=True)
    images = np.asarray(images, dtype=np.float32)
    found = joint(images, variance=np.ones_like(images), psf=PSF, pixel_scale=SCALE, xy=xy)
    g = np.stack([found.extra["g1"], found.extra["g2"]], axis=-1)
    change = np.stack([g[0] - g[1], g[2] - g[3]], axis=-1) / (2 * SHEAR)
    relative = found.extra["T_err"] / found.extra["T"]
    return change, found.extra["response"].mean(0), relative.mean(0)


@pytest.mark.parametrize("shape", [(0.0, 0.0), (0.3, 0.0), (0.2, 0.2)])
def test_a_faint_galaxy_answers_as_its_response_says(shape):
    change, response, _ = measure([(*shape, 0.2, -0.3, 1.0)], 12)
    r11, r22, r12 = response[0]
    # Without it the shear would be measured a sixth too small.
    assert change[0, [0, 1], [0, 1]].mean() < 0.84
    assert change[0, 0, 0] == pytest.approx(r11, abs=0.02)
    assert change[0, 1, 1] == pytest.approx(r22, abs=0.025)
    assert change[0, 0, 1] == pytest.approx(r12, abs=0.025)


def test_a_bright_galaxy_answers_in_full():
    _, response, _ = measure([(0.0, 0.0, 0.0, 0.0, 1.0)], 1000)
    assert response[0] == pytest.approx([1, 1, 0], abs=0.002)


def test_in_a_pair_the_response_along_its_axis_is_another():
    pair = [(0.0, 0.0, -3.2, 0.0, 1.0), (0.0, 0.0, 3.2, 0.0, 1.0)]
    change, response, _ = measure(pair, 20)
    along, across = response[0, :2]
    assert along > across + 0.04
    assert change[0, 0, 0] == pytest.approx(along, abs=0.02)
    assert change[0, 1, 1] == pytest.approx(across, abs=0.02)


def test_a_galaxy_of_uncertain_size_answers_less():
    faint = [(0.0, 0.0, 0.0, 0.0, 1.0)]
    _, curvature, relative = measure(faint, 12)
    _, told, _ = measure(faint, 12, config=JointConfig(shear=ShearConfig(by_size_variance=2.0)))
    # T of a round galaxy goes with the square of r50.
    variance = (0.5 * relative[0]) ** 2
    assert variance > 0.02
    assert told[0, :2] / curvature[0, :2] == pytest.approx(np.exp(-2 * variance), rel=1e-3)
