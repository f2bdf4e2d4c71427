"""The sources of each stamp, put together as one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from raydeblend.tile import Deblended, FloatArray

Sources = tuple[FloatArray, FloatArray]
"""Models ``(k, bands, y, x)``, brightest first, and positions ``(k, 2)`` of one stamp."""


def stack_sources(
    sources: Sequence[Sources],
    quality: Sequence[str],
    shape: tuple[int, ...],
    extra: Mapping[str, NDArray[np.generic]] | None = None,
) -> Deblended:
    """Pad the sources of stamps of `shape` ``(n, bands, y, x)`` to the most in any of them."""
    n_sources = np.array([len(models) for models, _ in sources], dtype=np.int64)
    most = max(1, int(n_sources.max(initial=0)))
    models = np.zeros((shape[0], most, *shape[1:]), dtype=np.float32)
    xy = np.full((shape[0], most, 2), np.nan, dtype=np.float32)
    for row, (own_models, own_xy) in enumerate(sources):
        models[row, : len(own_models)] = own_models
        xy[row, : len(own_xy)] = own_xy
    return Deblended(models, n_sources, xy, np.array(quality, dtype="<U6"), dict(extra or {}))
