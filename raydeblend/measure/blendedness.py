"""How much of the light at a source belongs to others (Bosch et al. 2018, PASJ 70, S5)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def blendedness(models: ArrayLike) -> Array:
    """Return 1 − Σ I_k² / Σ (I_k Σ_j I_j) for each source, summed over bands and pixels.

    0 for a source alone, towards 1 for one drowned in a brighter neighbor (section 4.9.11 of the
    paper, with the sum of the models in place of the image).

    Parameters
    ----------
    models
        ``(k, bands, y, x)``, the deblended models of one blend.

    Returns
    -------
    ``(k,)``; NaN for a model without light.
    """
    light = np.asarray(models, dtype=float)
    total = light.sum(0)
    return np.array([blendedness_in(total, own) for own in light])


def blendedness_in(total: Array, own: Array) -> float:
    """Return the blendedness of one source in the light of all, both ``(bands, y, x)``."""
    square, with_others = float((own**2).sum()), float((own * total).sum())
    return 1 - square / with_others if square > 0 and with_others > 0 else float("nan")


def neighbor_flux(models: ArrayLike, weight: ArrayLike) -> Array:
    """Return the flux of the other sources under each source's own profile.

    It is what a fit of that profile would gain in a band if nobody took the others out,
    Σ w I_k Σ_{j≠k} I_j / Σ w I_k², times the source's flux Σ I_k.

    Parameters
    ----------
    models
        ``(k, bands, y, x)``, the deblended models of one blend.
    weight
        ``(bands, y, x)`` inverse variance.

    Returns
    -------
    ``(k, bands)``, at least 0; 0 for a model without light.
    """
    light, weight = np.asarray(models), np.asarray(weight, dtype=float)
    total = light.sum(0, dtype=float)
    # One after the other: many models in double precision would not fit into the memory.
    rows = [neighbor_flux_in(total, own.astype(float), weight) for own in light]
    return np.array(rows).reshape(light.shape[:2])


def neighbor_flux_in(total: Array, own: Array, weight: NDArray[np.floating[Any]]) -> Array:
    """Return the flux ``(bands,)`` of others under one source; all are ``(bands, y, x)``."""
    square = np.einsum("byx,byx,byx->b", own, own, weight)
    others = np.einsum("byx,byx,byx->b", own, total - own, weight)
    gain = np.maximum(own.sum((1, 2)) * others, 0) / np.where(square > 0, square, 1.0)
    return np.where(square > 0, gain, 0.0)
