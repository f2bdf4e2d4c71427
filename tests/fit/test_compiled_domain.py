"""Steps that would leave the domain, in compiled code and in torch."""

import numpy as np
import pytest
import torch

from raydeblend.fit import domain as torch_domain
from raydeblend.fit.compiled.domain import HELD, LONGEST_BULGE, LONGEST_DISK, hold, inside, limit
from raydeblend.fit.sersic import LOG_INDICES

LARGEST = (1.0, 1.0, 0.5, 0.5, 1.0, 1.0, 0.5, 0.5, 0.5)
PLAIN = np.array([3.0, 4.0, 0.1, 0.2, -1.0, -2.0, 0.3, -0.1, 0.0])


def both(theta: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Where a source is after a step, for compiled code and torch alike."""
    mine = step.copy()
    limit(theta, LARGEST, mine)
    largest = torch.tensor(LARGEST, dtype=torch.float64)
    torchs = torch_domain.limited(torch.tensor(theta), largest, torch.tensor(step))
    np.testing.assert_allclose(mine, torchs.numpy(), atol=1e-15)
    return theta + mine


def test_a_step_that_is_allowed_stays_as_it_is() -> None:
    step = np.full(9, 0.01)
    limit(PLAIN, LARGEST, step)
    assert (step == 0.01).all()


def test_no_parameter_goes_farther_than_its_largest_step() -> None:
    after = both(PLAIN, np.array([5.0, -5.0, 0, 0, 5.0, -5.0, 0, 0, 5.0]))
    np.testing.assert_allclose(after - PLAIN, [1, -1, 0, 0, 1, -1, 0, 0, 0.5])


@pytest.mark.parametrize(("first", "most"), [(2, LONGEST_DISK), (6, LONGEST_BULGE)])
def test_a_shear_ends_at_its_bound_and_keeps_its_direction(first: int, most: float) -> None:
    theta, step = PLAIN.copy(), np.zeros(9)
    theta[first : first + 2], step[first : first + 2] = (0.6, 0.6), (0.3, 0.3)
    after = both(theta, step)
    assert after[first] == pytest.approx(after[first + 1])
    assert np.hypot(*after[first : first + 2]) == pytest.approx(most)
    assert inside(after)


@pytest.mark.parametrize("sign", [-1, 1])
def test_an_index_ends_where_the_gaussians_do(sign: int) -> None:
    bound = LOG_INDICES[0] if sign < 0 else LOG_INDICES[1]
    theta, step = PLAIN.copy(), np.zeros(9)
    theta[8], step[8] = bound - 0.1 * sign, 0.4 * sign
    assert both(theta, step)[8] == pytest.approx(bound)


@pytest.mark.parametrize(("first", "most"), [(2, LONGEST_DISK), (6, LONGEST_BULGE)])
@pytest.mark.parametrize(("part", "outwards", "stays"), [(1.0, 1, True), (1.0, -1, False),
                                                         (0.9 * HELD, 1, False)])  # fmt: skip
def test_only_a_shear_at_its_bound_that_would_grow_is_held(
    first: int, most: float, part: float, outwards: int, stays: bool
) -> None:
    theta, gradient = PLAIN.copy(), np.zeros(9)
    theta[first : first + 2] = part * most * np.array([0.6, -0.8])
    gradient[first : first + 2] = -outwards * np.array([1.0, -1.0])
    mine = np.zeros(9, dtype=bool)
    hold(theta, gradient, mine)
    torchs = torch_domain.held(torch.tensor(theta), torch.tensor(gradient))
    expected = np.zeros(9, dtype=bool)
    expected[first : first + 2] = stays
    np.testing.assert_array_equal(mine, expected)
    np.testing.assert_array_equal(torchs.numpy(), expected)
