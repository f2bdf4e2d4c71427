"""How much of a source's light each band has seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from raydeblend.tile import BoolArray


def seen_part(models: ArrayLike, unusable: BoolArray) -> NDArray[np.float64]:
    """Return the part of each source's light that falls on usable pixels of each band.

    The light is that of the model in all bands together, which reaches over pixels that one of
    them lacks.

    Parameters
    ----------
    models
        ``(k, bands, y, x)``, the deblended models of one blend.
    unusable
        ``(bands, y, x)``: bad pixels, other footprints, and what lies off the tile.

    Returns
    -------
    ``(k, bands)`` from 0 to 1; NaN for a model without light.
    """
    usable = ~unusable
    # One after the other: copies of many models would not fit into the memory.
    rows = [_seen(np.asarray(own), usable) for own in np.asarray(models)]
    return np.array(rows).reshape(-1, len(unusable))


def _seen(own: NDArray[np.floating], usable: BoolArray) -> NDArray[np.float64]:
    light = np.clip(np.nan_to_num(own), 0, None).sum(0, dtype=np.float64)
    total = light.sum()
    if not total > 0:
        return np.full(len(usable), np.nan)
    return np.asarray((light * usable).sum((1, 2)) / total)
