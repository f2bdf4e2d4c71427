"""Boosted regression trees as plain arrays: ln of the odds is the sum of what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BoostedTrees:
    """Trees of one depth d, each with 2^d - 1 questions and 2^d answers.

    Attributes
    ----------
    feature
        ``(t, 2^d - 1)`` which one is asked for; after question k comes 2k + 1 or 2k + 2.
    threshold
        ``(t, 2^d - 1)`` above which it is the second.
    value
        ``(t, 2^d)`` what the leaves add to ln of the odds.
    """

    feature: NDArray[np.intp]
    threshold: Array
    value: Array

    def __post_init__(self) -> None:
        trees, questions = self.feature.shape
        if self.threshold.shape != (trees, questions) or self.value.shape != (trees, questions + 1):
            raise ValueError("numbers of features, thresholds and values do not agree")

    def logit(self, features: Array) -> Array:
        """Return ln of the odds ``(n,)`` for features ``(n, f)``."""
        rows, trees = np.arange(len(features))[:, None], np.arange(len(self.feature))
        questions = self.feature.shape[1]
        node = np.zeros((len(features), len(trees)), dtype=np.intp)
        while (node < questions).any():
            above = features[rows, self.feature[trees, node]] > self.threshold[trees, node]
            node = 2 * node + 1 + above
        return np.asarray(self.value[trees, node - questions].sum(axis=1))


def read_trees(content: Mapping[str, Any]) -> BoostedTrees:
    """Return the trees that JSON holds; a ValueError or KeyError if it does not."""
    return BoostedTrees(
        np.array(content["feature"], dtype=np.intp),
        np.array(content["threshold"], dtype=np.float64),
        np.array(content["value"], dtype=np.float64),
    )


def write_trees(trees: BoostedTrees) -> dict[str, Any]:
    """Return trees as JSON holds them."""
    arrays = {name: getattr(trees, name).round(5).tolist() for name in ("threshold", "value")}
    return {"feature": trees.feature.tolist(), **arrays}
