"""A quadratic logistic model: from what is seen of a source to a probability.

Every calibration of this package is one or two of them, read from JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LogisticConfig:
    """How features enter every model.

    Attributes
    ----------
    max_deviation
        Standard deviations at which a feature is cut off: nothing is known further out.
    """

    max_deviation: float = 4.0


LOGISTIC = LogisticConfig()


@dataclass(frozen=True)
class Logistic:
    """ln of the odds as a quadratic form of standardized features.

    Attributes
    ----------
    mean, scale
        ``(f,)`` of the training sample.
    weights
        ``(f + f (f + 1) / 2,)`` of the features and of their products, see `terms`.
    intercept
        For the natural number of blends.
    """

    mean: Array
    scale: Array
    weights: Array
    intercept: float

    def logit(self, features: Array) -> Array:
        """Return ln of the odds ``(n,)``."""
        return terms((features - self.mean) / self.scale) @ self.weights + self.intercept


def terms(standardized: Array) -> Array:
    """Return the features ``(n, f)``, cut off (`LogisticConfig`), and all their products."""
    z = np.clip(standardized, -LOGISTIC.max_deviation, LOGISTIC.max_deviation)
    first, second = np.triu_indices(z.shape[1])
    return np.concatenate([z, z[:, first] * z[:, second]], axis=1)


def probability(logit: Array) -> Array:
    """Return the probability of ln odds."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logit, -50, 50))))


def read_logistic(content: Mapping[str, Any]) -> Logistic:
    """Return the model that JSON holds; a ValueError or KeyError if it does not."""
    mean, scale, weights = (
        np.array(content[name], dtype=np.float64) for name in ("mean", "scale", "weights")
    )
    if weights.shape != terms(mean[None]).shape[1:] or scale.shape != mean.shape:
        raise ValueError("numbers of features and weights do not agree")
    return Logistic(mean, scale, weights, float(content["intercept"]))


def write_logistic(part: Logistic) -> dict[str, Any]:
    """Return a model as JSON holds it."""
    arrays = {name: getattr(part, name).round(6).tolist() for name in ("mean", "scale", "weights")}
    return {**arrays, "intercept": round(part.intercept, 6)}
