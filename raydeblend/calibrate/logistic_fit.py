"""Logistic regression that is calibrated in tiles like the sky and in those with more pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.logistic import Logistic, probability, terms

Array = NDArray[np.float64]

RIDGE = 10.0
"""Penalty of the weights; features have unit variance."""


def fit_logistic(
    x: Array,
    truth: NDArray[np.bool_],
    paired: NDArray[np.bool_],
    steps: int = 50,
    ridge: float = RIDGE,
) -> tuple[Logistic, float]:
    """Fit by Newton's method with a ridge on all but the intercept and the offset of paired tiles.

    Logistic regression is calibrated on its training sample by construction: Σ p = Σ truth, in
    paired tiles and in the others (its score equations for these two parameters).

    Parameters
    ----------
    x
        ``(n, features)``.
    truth, paired
        ``(n,)`` what is to be predicted, and whether an example's tile has more pairs than the sky.

    Returns
    -------
    logistic, offset
        The fit for tiles like the sky, and what paired ones add to its ln odds.
    """
    mean, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    design = terms((x - mean) / scale)
    a = np.column_stack([design, np.ones(len(x)), paired.astype(np.float64)])
    penalty = np.full(a.shape[1], ridge)
    # A weak ridge on these two as well: either kind of tile may have no positive example.
    penalty[-2:] = 0.1
    weights = np.zeros(a.shape[1])
    for _ in range(steps):
        p = probability(a @ weights)
        gradient = a.T @ (p - truth) + penalty * weights
        curvature = (a * (p * (1 - p))[:, None]).T @ a + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        now = _loss(a, truth, weights, penalty)
        # If the classes are nearly separable, a full Newton step may increase the loss.
        while _loss(a, truth, weights - step, penalty) > now and np.abs(step).max() > 1e-8:
            step = step / 2
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    return Logistic(mean, scale, weights[:-2], float(weights[-2])), float(weights[-1])


def _loss(a: Array, truth: NDArray[np.bool_], weights: Array, penalty: Array) -> float:
    """Return −ln of the likelihood plus the ridge penalty."""
    logit = a @ weights
    likelihood = (truth * logit - np.logaddexp(0, logit)).sum()
    return float(0.5 * (penalty * weights**2).sum() - likelihood)
