import galsim
import numpy as np
import pytest
import torch

from raydeblend.fit.bulge_disk import component_images, derivatives, source_images, unit_light
from raydeblend.fit.psf_wings import fit_wings

SCALE = 0.2
SIZE = 65
THETA = [31.3, 32.4, 0.15, -0.1, np.log(0.6), np.log(0.35), 0.05, 0.02, 0.0]
SEEING = galsim.Moffat(beta=3.5, fwhm=0.7)


@pytest.fixture(scope="module")
def psf():
    stamp = SEEING.drawImage(nx=45, ny=45, scale=SCALE).array
    mixture = fit_wings(stamp)
    c = mixture.covariances
    cov = np.stack([c[:, 0, 0], c[:, 0, 1], c[:, 1, 1]], 1)
    return torch.tensor(mixture.weights)[None, None], torch.tensor(cov)[None, None]


@pytest.fixture(scope="module")
def pixels():
    y, x = np.indices((SIZE, SIZE), dtype=np.float64).reshape(2, -1)
    return torch.tensor(np.stack([x, y])[None])


def draw_by_galsim(theta, disk, bulge):
    x, y, g1, g2, log_r, log_rb, b1, b2, log_n = theta
    galaxy = galsim.Sersic(np.exp(log_n), half_light_radius=np.exp(log_r), flux=disk)
    galaxy = galaxy.shear(g1=g1, g2=g2)
    galaxy += galsim.DeVaucouleurs(half_light_radius=np.exp(log_rb), flux=bulge).shear(g1=b1, g2=b2)
    galaxy = galsim.Convolve(galaxy, SEEING)
    middle = (SIZE - 1) / 2
    return galaxy.drawImage(nx=SIZE, ny=SIZE, scale=SCALE, offset=(x - middle, y - middle)).array


@pytest.mark.parametrize("index", [0.4, 0.6, 1.0, 1.7, 3.0, 6.0])
def test_the_image_is_galsims(psf, pixels, index):
    theta = [*THETA[:8], np.log(index)]
    light = unit_light(torch.tensor([theta]), psf, pixels, SCALE)
    ours = source_images(light, torch.tensor([[[700.0, 300.0]]]))[0, 0].reshape(SIZE, SIZE).numpy()
    truth = draw_by_galsim(theta, 700, 300)
    # Mixtures of Gaussians stand for the profiles and the PSF: percents of the light, not less.
    assert np.abs(ours - truth).max() < 0.01 * truth.max()
    assert ours.sum() == pytest.approx(truth.sum(), rel=0.01)


def test_components_have_unit_flux_and_add_up(psf, pixels):
    light = unit_light(torch.tensor([THETA]), psf, pixels, SCALE)
    disk, bulge = component_images(light)[0, 0]
    assert float(disk.sum()) == pytest.approx(1.0, abs=0.02)
    # A tenth of a de Vaucouleurs profile lies beyond five half-light radii.
    assert 0.85 < float(bulge.sum()) < 1.02
    both = source_images(light, torch.tensor([[[2.0, 3.0]]]))[0, 0]
    torch.testing.assert_close(both, 2 * disk + 3 * bulge)


@pytest.mark.parametrize("parameter", range(9))
def test_derivatives_are_those_of_the_image(psf, pixels, parameter):
    flux = torch.tensor([[[500.0, 400.0]]], dtype=torch.float64)
    step = 1e-4
    images = []
    for sign in (1, -1):
        theta = torch.tensor([THETA], dtype=torch.float64)
        theta[0, parameter] += sign * step
        images.append(source_images(unit_light(theta, psf, pixels, SCALE), flux))
    slope = (images[0] - images[1]) / (2 * step)
    light = unit_light(torch.tensor([THETA], dtype=torch.float64), psf, pixels, SCALE)
    torch.testing.assert_close(
        derivatives(light, flux)[:, :, parameter], slope, rtol=1e-4, atol=1e-4
    )
