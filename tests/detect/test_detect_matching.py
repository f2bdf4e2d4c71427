from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raydeblend.detect.matching import match_positions


def best_by_trial(found, truth, radius):
    """Most pairs, then least distance, by trying every assignment (None: unmatched)."""
    choices = [*range(len(found)), *([None] * len(truth))]
    best = (0, 0.0)
    for choice in set(permutations(choices, len(truth))):
        lengths = [np.hypot(*(found[j] - truth[i])) for i, j in enumerate(choice) if j is not None]
        if all(length <= radius for length in lengths):
            best = min(best, (-len(lengths), sum(lengths)))
    return best


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 4), st.integers(1, 3), st.integers(0, 2**31))
def test_agrees_with_trying_every_assignment(n_found, n_truth, seed):
    rng = np.random.default_rng(seed)
    found, truth = rng.uniform(0, 12, (n_found, 2)), rng.uniform(0, 12, (n_truth, 2))
    match = match_positions(found, truth, 5)
    used = match[match >= 0]
    assert len(set(used)) == len(used)
    lengths = np.hypot(*(found[used] - truth[match >= 0]).T)
    assert (lengths <= 5).all()
    count, total = best_by_trial(found, truth, 5)
    assert len(used) == -count
    assert lengths.sum() == pytest.approx(total)


def test_gate_comes_before_the_assignment():
    # Without a gate the least total distance would pair 0-0 and 1-1 (4 + 7) and then lose the
    # second; with it, too, only one pair can stay, but the short one must not be given up.
    truth = np.array([[0.0, 0.0], [10.0, 0.0]])
    found = np.array([[3.0, 0.0], [-4.0, 0.0]])
    assert match_positions(found, truth).tolist() == [0, -1]


def test_nan_positions_and_none_found_are_unmatched():
    truth = np.array([[1.0, 1.0], [2.0, 2.0]])
    assert match_positions(np.array([[np.nan, np.nan], [2.0, 2.1]]), truth).tolist() == [-1, 1]
    assert match_positions(np.zeros((0, 2)), truth).tolist() == [-1, -1]
