"""The self-organizing map of the blends (Hemmati et al. 2022, Fig. 6; Kohonen 2001)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from minisom import MiniSom
from numpy.typing import NDArray

Array = NDArray[np.float64]

SHAPE = (32, 24)
"""Columns and rows of the map (section 4)."""
SWEEPS = 10
"""How often each blend is shown."""
RADIUS, RATE = 6.0, 0.5
"""First neighborhood in cells, and first learning rate."""


@dataclass(frozen=True)
class BlendMap:
    """Means over the blends of each cell.

    Attributes
    ----------
    parameters, fractions
        By name ``(24, 32)``; NaN where no blend is.
    counts
        ``(24, 32)`` blends of each cell.
    """

    parameters: Mapping[str, Array]
    fractions: Mapping[str, Array]
    counts: NDArray[np.int64]


def map_blends(
    parameters: Mapping[str, Array], found: Mapping[str, NDArray[np.bool_]], seed: int = 0
) -> BlendMap:
    """Train a map on the parameters of blends ``(n,)`` and put what was found on it.

    Parameters are standardized: the median at 0 and the 16th to 84th percentile of width 2.
    """
    data = np.stack([_standardized(values) for values in parameters.values()], axis=1)
    som = MiniSom(
        *SHAPE, data.shape[1], sigma=RADIUS, learning_rate=RATE, random_seed=seed
    )  # fmt: skip
    som.random_weights_init(data)
    som.train(data, SWEEPS * len(data), random_order=True)
    cells = _cells(data, som.get_weights())
    counts = np.bincount(cells, minlength=SHAPE[0] * SHAPE[1])
    return BlendMap(
        {name: _means(cells, values, counts) for name, values in parameters.items()},
        {name: _means(cells, hits.astype(float), counts) for name, hits in found.items()},
        _on_grid(counts),
    )


def _standardized(values: Array) -> Array:
    low, middle, high = np.percentile(values, (16, 50, 84))
    return np.asarray(2 * (values - middle) / max(high - low, 1e-9))


def _cells(data: Array, weights: Array) -> NDArray[np.intp]:
    """Return the number of the nearest cell of each blend, ``(n,)``."""
    flat = weights.reshape(-1, data.shape[1])
    distance = (data**2).sum(1)[:, None] - 2 * data @ flat.T + (flat**2).sum(1)[None]
    return np.asarray(distance.argmin(axis=1))


def _means(cells: NDArray[np.intp], values: Array, counts: NDArray[np.int64]) -> Array:
    total = np.bincount(cells, weights=values, minlength=len(counts))
    return _on_grid(np.where(counts > 0, total / np.maximum(counts, 1), np.nan))


def _on_grid(values: NDArray[np.generic]) -> NDArray:  # type: ignore[type-arg]
    """Return ``(24, 32)``: MiniSom numbers cells by column first."""
    return values.reshape(SHAPE).T
