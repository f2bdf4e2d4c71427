import numpy as np
import pytest

from raydeblend.simulate.population.mixture import Mixture, load_mixture

ONE = Mixture(
    ("a", "b", "c"),
    np.array([1.0]),
    np.array([[1.0, 2.0, -1.0]]),
    np.array([[[1.0, 0.6, 0.2], [0.6, 2.0, -0.3], [0.2, -0.3, 0.5]]]),
)


def test_draws_have_the_conditional_mean_and_covariance():
    """Against the moments of the unconditioned normal near the given value."""
    rng = np.random.default_rng(1)
    drawn = ONE.draw({"a": np.full(40_000, 2.0)}, ("c", "b"), rng)
    everything = rng.multivariate_normal(ONE.means[0], ONE.covariances[0], 2_000_000)
    near = everything[np.abs(everything[:, 0] - 2.0) < 0.05]
    for name, column in (("b", 1), ("c", 2)):
        assert drawn[name].mean() == pytest.approx(near[:, column].mean(), abs=0.03)
        assert drawn[name].std() == pytest.approx(near[:, column].std(), rel=0.02)
    assert np.cov(drawn["b"], drawn["c"])[0, 1] == pytest.approx(
        np.cov(near[:, 1:].T)[0, 1], abs=0.02
    )


def test_the_component_that_explains_what_is_known_is_chosen():
    two = Mixture(
        ("a", "b"),
        np.array([0.8, 0.2]),
        np.array([[0.0, -5.0], [2.0, 5.0]]),
        np.array([np.eye(2), np.eye(2)]),
    )
    rng = np.random.default_rng(2)
    drawn = two.draw({"a": np.full(20_000, 1.5)}, ("b",), rng)["b"]
    # Bayes: 0.2 N(1.5; 2, 1) over the sum with 0.8 N(1.5; 0, 1).
    second, first = 0.2 * np.exp(-0.125), 0.8 * np.exp(-1.125)
    assert (drawn > 0).mean() == pytest.approx(second / (first + second), abs=0.012)


@pytest.mark.parametrize("name", ["cosmos", "catsim"])
def test_shipped_mixtures_are_whole(name):
    mixture = load_mixture(name)
    assert mixture.weights.sum() == pytest.approx(1)
    assert np.linalg.eigvalsh(mixture.covariances).min() > 0
    again = Mixture.from_table(mixture.to_table())
    assert again.names == mixture.names
    assert np.array_equal(again.covariances, mixture.covariances)
