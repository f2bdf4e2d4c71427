"""Boosted trees as arrays: against those of scikit-learn, and by hand."""

import numpy as np
import pytest

from raydeblend.deblend.trees import BoostedTrees, read_trees, write_trees

STUMPS = BoostedTrees(
    np.array([[0, 1, 0], [1, 1, 1]]),
    np.array([[0.0, 1.0, 5.0], [2.0, 2.0, 2.0]]),
    np.array([[1.0, 2.0, 3.0, 4.0], [10.0, 10.0, 20.0, 20.0]]),
)


def test_questions_lead_to_leaves() -> None:
    # Not above 0, then not above 1; above 0, then above 5; and the second tree asks whether the
    # second feature is above 2.
    features = np.array([[0.0, 1.0], [-1.0, 3.0], [1.0, 0.0], [6.0, 2.1]])
    assert STUMPS.logit(features).tolist() == [11.0, 22.0, 13.0, 24.0]
    assert STUMPS.logit(np.zeros((0, 2))).shape == (0,)


def test_they_come_back_from_json() -> None:
    again = read_trees(write_trees(STUMPS))
    for name in ("feature", "threshold", "value"):
        np.testing.assert_array_equal(getattr(again, name), getattr(STUMPS, name))


def test_numbers_that_disagree_are_refused() -> None:
    content = write_trees(STUMPS)
    with pytest.raises(ValueError, match="do not agree"):
        read_trees(content | {"value": [[1.0, 2.0, 3.0]] * 2})
