import numpy as np

from raydeblend.evaluate.survey.unrecognized import unrecognized_blends

FOUND = np.array([[0.0, 0.0], [10.0, 0.0]])


def test_a_true_source_that_is_not_in_the_catalog_makes_a_blend():
    true = np.array([[0.0, 0.1], [0.0, -0.4], [10.0, 0.0]])
    blended = unrecognized_blends(FOUND, true, np.array([100.0, 50.0, 80.0]))
    assert blended.tolist() == [True, False]


def test_both_in_the_catalog_are_no_blend():
    found = np.array([[0.0, 0.0], [0.0, 0.6]])
    assert not unrecognized_blends(found, found, np.array([100.0, 50.0])).any()


def test_too_faint_or_too_far_does_not_count():
    true = np.array([[0.0, 0.0], [0.0, 0.5], [10.0, 0.0], [10.0, 0.9]])
    assert not unrecognized_blends(FOUND, true, np.array([100.0, 9.0, 100.0, 90.0])).any()
    true[3, 1] = 0.7
    assert unrecognized_blends(FOUND, true, np.array([100.0, 9.0, 100.0, 90.0])).tolist() == [
        False,
        True,
    ]


def test_a_source_that_is_not_real_is_no_blend():
    true = np.array([[0.0, 0.0], [10.7, 0.0]])
    assert not unrecognized_blends(FOUND, true, np.array([1.0, 1.0])).any()


def test_nothing_found_and_nothing_there():
    nothing = np.zeros((0, 2))
    assert unrecognized_blends(nothing, FOUND, np.ones(2)).shape == (0,)
    assert not unrecognized_blends(FOUND, nothing, np.zeros(0)).any()
