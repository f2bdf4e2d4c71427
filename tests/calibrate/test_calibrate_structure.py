"""The calibration of structure, on places and features that are known."""

import numpy as np
import pytest
from sklearn.ensemble import GradientBoostingClassifier

from raydeblend.calibrate.structure import (
    RADIUS,
    StructureExamples,
    _is_neighbor,
    complete_trees,
    fit_trees,
    score,
    train_structure,
)
from raydeblend.deblend.joint.attachments import FEATURES, Attachments
from raydeblend.deblend.joint.config import StructureConfig
from raydeblend.errors import ConfigError


def examples(seed: int, n: int = 400) -> StructureExamples:
    """Half structure, of contrasts about 0.5, half neighbors, of contrasts about 50."""
    rng = np.random.default_rng(seed)
    is_structure = np.arange(n) < n // 2
    features = rng.normal(size=(n, len(FEATURES)))
    features[:, 0] += np.where(is_structure, np.log(0.5), np.log(50))
    origin = np.where(is_structure, "real", np.where(np.arange(n) % 2, "fields", "blends"))
    return StructureExamples(features, is_structure, origin, np.arange(n) // 2)


def test_what_lies_at_another_galaxy_as_bright_is_a_neighbor() -> None:
    place, flux = np.array([[10.0, 10.0], [20.0, 10.0], [30.0, 10.0]]), np.array([100.0, 30.0, 9.0])
    # A clump of the first; the second galaxy; the third one's place, but ten times as bright; a
    # place where nothing is.
    xy = np.array([[10.0, 10.0], [11.5, 10.0], [20.0, 11.0], [30.0, 10.0], [20.0, 10.5 + RADIUS]])
    light = np.array([95.0, 20.0, 25.0, 90.0, 25.0])
    source = np.arange(1, 5)
    seen = Attachments(source, np.zeros(4, dtype=np.intp), np.zeros((4, len(FEATURES))))
    assert _is_neighbor(seen, xy, light, place, flux).tolist() == [False, True, False, False]
    nobody = Attachments(source[:0], source[:0], np.zeros((0, len(FEATURES))))
    assert _is_neighbor(nobody, xy, light, place, flux).shape == (0,)


def test_scores_count_what_was_not_seen() -> None:
    train, held = examples(0), examples(1)
    trees = fit_trees(train, 0)
    _, scores = score(trees, held, StructureConfig(min_probability=0.5))
    assert scores["sources that are structure"] == 200
    assert scores["real galaxies with structure"] == 100
    # ln 0.5 and ln 50 are 4.6 apart with a scatter of 1 each, so that 1 % are on the wrong side; of
    # structure 4 % have a contrast above the most that counts, 3; and 400 examples are few.
    assert scores["taken for it"] > 176
    assert scores["real galaxies still split"] < 24
    assert scores["neighbors in fields"] == scores["neighbors in blends"] == 100
    assert scores["neighbors in fields taken for structure"] < 8
    _, all_parts = score(trees, held, StructureConfig(min_probability=0.0, max_contrast=np.inf))
    assert all_parts["real galaxies still split"] == 0
    assert all_parts["neighbors in blends taken for structure"] == 100


def test_completed_trees_say_what_the_learned_ones_do() -> None:
    train, held = examples(2), examples(3)
    # Few examples and deep trees: many branches end early.
    model = GradientBoostingClassifier(
        n_estimators=30, max_depth=5, learning_rate=0.3, init="zero", random_state=0
    ).fit(train.features[::8], train.is_structure[::8])
    assert min(tree.tree_.n_leaves for tree in model.estimators_[:, 0]) < 32
    # scikit-learn asks of single precision.
    features = held.features.astype(np.float32).astype(np.float64)
    said = complete_trees(model).logit(features)
    np.testing.assert_allclose(said, model.decision_function(features), atol=1e-6)


def test_the_same_seed_gives_the_same_trees() -> None:
    one, two, other = (fit_trees(examples(0), seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.value, two.value)
    assert not np.array_equal(one.value, other.value)


def test_it_is_not_learned_without_real_galaxies(tmp_path) -> None:
    with pytest.raises(ConfigError, match="learned from real galaxies"):
        train_structure(str(tmp_path / "out"), "tiny")
    with pytest.raises(ConfigError, match="unknown preset"):
        train_structure(str(tmp_path / "out"), "huge")
