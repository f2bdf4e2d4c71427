import numpy as np
import pytest

from raydeblend.errors import TileError
from raydeblend.fit.psf import _model, _unpack, fit_psf


def gaussian(sigma_x: float, sigma_y: float, size: int, x0: float = 0, y0: float = 0) -> np.ndarray:
    y, x = np.indices((size, size)) - (size - 1) / 2
    image = np.exp(-0.5 * (((x - x0) / sigma_x) ** 2 + ((y - y0) / sigma_y) ** 2))
    return image / image.sum()


def render(
    weights: np.ndarray, center: np.ndarray, covariances: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """The mixture, by the textbook formula."""
    offset = np.stack([x - center[0], y - center[1]])
    inverse = np.linalg.inv(covariances)
    chi2 = np.einsum("ip,kij,jp->kp", offset, inverse, offset)
    norm = weights / (2 * np.pi * np.sqrt(np.linalg.det(covariances)))
    return norm @ np.exp(-0.5 * chi2)


def test_one_elliptical_gaussian_is_recovered_in_x_and_y():
    fit = fit_psf(gaussian(1.6, 2.2, 31, x0=0.3, y0=-0.2), components=1)
    np.testing.assert_allclose(fit.covariances[0], [[1.6**2, 0], [0, 2.2**2]], atol=1e-4)
    np.testing.assert_allclose(fit.weights, [1.0])


def test_seeing_limited_psf_is_fitted_closely(psf):
    for stamp in psf:
        fit, (y, x) = fit_psf(stamp), np.indices(stamp.shape).reshape(2, -1)
        middle = (np.array(stamp.shape[::-1]) - 1) / 2
        model = render(fit.weights, middle, fit.covariances, x, y).reshape(stamp.shape)
        assert np.abs(model - stamp).max() < 0.002 * stamp.max()
        # The flux of a star measured with the model.
        assert (model * stamp).sum() / (model**2).sum() == pytest.approx(1, abs=1e-3)


def test_weights_are_positive_and_sum_to_one(psf):
    fit = fit_psf(psf[0])
    assert fit.weights.min() > 0
    assert fit.weights.sum() == pytest.approx(1)
    assert np.linalg.eigvalsh(fit.covariances).min() > 0


def test_negative_wings_do_no_harm():
    clean = gaussian(1.8, 1.8, 41)
    y, x = np.indices(clean.shape) - 20
    wings = np.where(np.hypot(x, y) > 9, -3e-5, 0.0)
    fit = fit_psf(clean + wings)
    core = fit.weights @ fit.covariances[:, 0, 0]
    assert core == pytest.approx(1.8**2, rel=0.05)


def test_rectangular_stamp():
    fit = fit_psf(gaussian(1.8, 1.8, 41)[1:-1], components=1)
    np.testing.assert_allclose(fit.covariances[0], 1.8**2 * np.eye(2), atol=1e-3)


@pytest.mark.parametrize(
    "stamp", [np.zeros((9, 9)), np.full((9, 9), np.nan), -np.ones((9, 9)), np.ones(9)]
)
def test_stamp_without_light_is_refused(stamp):
    with pytest.raises(TileError, match="positive sum"):
        fit_psf(stamp)


def test_single_pixel_stamp_gives_a_finite_psf():
    fit = fit_psf(np.ones((1, 1)))
    assert np.all(np.isfinite(fit.covariances))


def test_ngmix_em_finds_the_same_size(psf):
    ngmix = pytest.importorskip("ngmix")
    stamp = psf[2].astype(float)
    middle = (stamp.shape[0] - 1) / 2
    jacobian = ngmix.DiagonalJacobian(row=middle, col=middle, scale=1.0)
    observation = ngmix.Observation(stamp, jacobian=jacobian)
    guess = ngmix.guessers.GMixPSFGuesser(np.random.RandomState(1), ngauss=5, guess_from_moms=True)
    fitter = ngmix.em.EMFitter(maxiter=3000, tol=1e-6)
    em = ngmix.runners.run_fitter(observation, fitter, guesser=guess, ntry=3).get_gmix()
    # Half the peak surface brightness, rather than second moments, which the far wings rule.
    fit = fit_psf(stamp)
    ours = (fit.weights / (2 * np.pi * np.sqrt(np.linalg.det(fit.covariances)))).sum()
    pars = em.get_full_pars().reshape(-1, 6)
    areas = np.sqrt(pars[:, 3] * pars[:, 5] - pars[:, 4] ** 2)
    theirs = (pars[:, 0] / (2 * np.pi * areas)).sum() / pars[:, 0].sum()
    assert ours == pytest.approx(theirs, rel=0.02)


def test_derivatives_of_the_mixture_agree_with_finite_differences():
    y, x = np.indices((15, 17)).reshape(2, -1).astype(float)
    q = np.array([8.2, 6.9, 0.3, -1.0, 0.5, 0.2, 0.6, 0.8, -0.3, 0.7, 1.2, 0.1, 1.4])
    model, jacobian = _model(q, x, y)
    weights, center, covariances = _unpack(q, 3)
    np.testing.assert_allclose(model, render(weights, center, covariances, x, y), rtol=1e-10)
    for i in range(len(q)):
        step = np.zeros(len(q))
        step[i] = 1e-6
        slope = (_model(q + step, x, y)[0] - _model(q - step, x, y)[0]) / 2e-6
        np.testing.assert_allclose(jacobian[:, i], slope, atol=1e-8)
