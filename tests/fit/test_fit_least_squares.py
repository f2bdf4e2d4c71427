import numpy as np
from scipy.optimize import least_squares

from raydeblend.fit.least_squares import minimize


def test_it_finds_the_minimum_that_scipy_finds() -> None:
    x = np.linspace(-3, 3, 1001)
    rng = np.random.default_rng(0)
    data = 2.0 * np.exp(-0.5 * (x - 0.4) ** 2 / 0.7**2) + 0.1 * rng.normal(size=x.size)

    def residuals(q):
        z = (x - q[1]) / np.exp(q[2])
        light = np.exp(q[0] - 0.5 * z**2)
        return light - data, np.stack([light, light * z / np.exp(q[2]), light * z**2])

    start = np.array([0.0, 0.0, 0.3])
    ours = minimize(residuals, start, 60)
    theirs = least_squares(lambda q: residuals(q)[0], start, jac=lambda q: residuals(q)[1].T)
    np.testing.assert_allclose(ours, theirs.x, atol=1e-4)


def test_what_a_parameter_does_not_change_leaves_it() -> None:
    def residuals(q):
        return np.array([q[0] - 3.0, 0.5]), np.array([[1.0, 0.0], [0.0, 0.0]])

    np.testing.assert_allclose(minimize(residuals, np.array([0.0, 7.0]), 50), [3.0, 7.0], atol=1e-3)
