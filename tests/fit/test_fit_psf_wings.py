from itertools import pairwise

import galsim
import numpy as np
import pytest

from raydeblend.errors import TileError
from raydeblend.fit.psf_wings import _model, _start, fit_wings

SCALE = 0.2


def profile(image, edges):
    y, x = np.indices(image.shape) - (image.shape[0] - 1) / 2
    radius = np.hypot(x, y)
    return np.array([image[(radius >= a) & (radius < b)].sum() for a, b in pairwise(edges)])


def draw(mixture, size):
    y, x = np.indices((size, size)) - (size - 1) / 2
    offset = np.stack([x.ravel(), y.ravel()])
    out = np.zeros(size * size)
    for weight, cov in zip(mixture.weights, mixture.covariances, strict=True):
        chi2 = np.einsum("ip,ij,jp->p", offset, np.linalg.inv(cov), offset)
        out += weight * np.exp(-0.5 * chi2) / (2 * np.pi * np.sqrt(np.linalg.det(cov)))
    return out.reshape(size, size)


@pytest.mark.parametrize("psf", [galsim.Moffat(beta=2.5, fwhm=0.7), galsim.Kolmogorov(fwhm=0.7)])
def test_core_and_wings_are_those_of_the_stamp(psf):
    stamp = psf.drawImage(nx=41, ny=41, scale=SCALE).array
    ours = draw(fit_wings(stamp), 41) * stamp.sum()
    assert np.abs(ours - stamp).max() < 5e-3 * stamp.max()
    rings = [0, 2, 4, 6, 9, 13, 17]
    np.testing.assert_allclose(profile(ours, rings), profile(stamp, rings), rtol=0.1)


def test_the_narrowest_comes_first_and_an_ellipse_stays_one():
    psf = galsim.Moffat(beta=3, fwhm=0.8).shear(g1=0.1, g2=0.05)
    mixture = fit_wings(psf.drawImage(nx=41, ny=41, scale=SCALE).array)
    assert np.all(np.diff(np.linalg.det(mixture.covariances)) > 0)
    core = mixture.covariances[0]
    e1 = (core[0, 0] - core[1, 1]) / np.trace(core)
    e2 = 2 * core[0, 1] / np.trace(core)
    truth = galsim.Shear(g1=0.1, g2=0.05)
    # The pixel rounds the core a little.
    assert e1 == pytest.approx(truth.e1, abs=0.04)
    assert e2 == pytest.approx(truth.e2, abs=0.04)


def test_negative_wings_of_a_real_psf_do_no_harm():
    rng = np.random.default_rng(3)
    stamp = galsim.Moffat(beta=3, fwhm=0.7).drawImage(nx=41, ny=41, scale=SCALE).array
    noisy = stamp + rng.normal(0, 1e-4, stamp.shape)
    ours = draw(fit_wings(noisy), 41) * stamp.sum()
    assert np.abs(ours - stamp).max() < 0.02 * stamp.max()


@pytest.mark.parametrize("stamp", [np.zeros((5, 5)), np.full((5, 5), np.nan), np.ones(5)])
def test_what_is_no_psf_is_refused(stamp):
    with pytest.raises(TileError, match="PSF stamp"):
        fit_wings(stamp)


def test_the_jacobian_is_that_of_finite_differences():
    stamp = (
        galsim.Moffat(beta=3, fwhm=0.8).shear(g1=0.1, g2=0.05).drawImage(nx=31, ny=31, scale=0.2)
    )
    y, x = np.indices((31, 31)).reshape(2, -1).astype(float)
    q = _start(stamp.array.astype(float) / stamp.array.sum())
    q[-1] = 6.0  # Clipped: the model does not follow.
    _, slopes = _model(q, x, y)
    for i in range(len(q)):
        step = 1e-6 * np.eye(len(q))[i]
        expected = (_model(q + step, x, y)[0] - _model(q - step, x, y)[0]) / 2e-6
        np.testing.assert_allclose(slopes[:, i], expected, atol=1e-8)
    assert not slopes[:, -1].any()


def test_a_psf_is_fitted_once():
    stamp = galsim.Moffat(beta=3, fwhm=0.8).drawImage(nx=31, ny=31, scale=0.2).array
    assert fit_wings(stamp) is fit_wings(stamp.copy())
    assert fit_wings(stamp) is not fit_wings(stamp[1:, 1:])
