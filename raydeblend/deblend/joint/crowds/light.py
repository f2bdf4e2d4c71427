"""What the patches of a crowd's sources say together: light under each, and images of all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.crowds.patches import Patch
from raydeblend.tile import FloatArray

Array = NDArray[np.float64]


def total_light(patches: Sequence[Patch], shape: tuple[int, ...]) -> Array:
    """Return the light ``(bands, y, x)`` of all sources."""
    total = np.zeros(shape)
    for patch in patches:
        patch.add_to(total)
    return total


def images(patches: Sequence[Patch], shape: tuple[int, ...]) -> FloatArray:
    """Return the image ``(k, bands, y, x)`` of each source, on the whole stamp."""
    out = np.zeros((len(patches), *shape), dtype=np.float32)
    for patch, image in zip(patches, out, strict=True):
        patch.add_to(image)
    return out


def neighbor_flux(patches: Sequence[Patch], weight: FloatArray) -> Array:
    """Return the flux ``(k, bands)`` of others under each source: `blendedness.neighbor_flux`."""
    total, rows = total_light(patches, weight.shape), []
    for patch in patches:
        window = (slice(None), *patch.box.slices)
        own = patch.light.astype(np.float64)
        square = np.einsum("byx,byx,byx->b", own, own, weight[window])
        others = np.einsum("byx,byx,byx->b", own, total[window] - own, weight[window])
        gain = np.maximum(own.sum((1, 2)) * others, 0) / np.where(square > 0, square, 1.0)
        rows.append(np.where(square > 0, gain, 0.0))
    return np.array(rows).reshape(len(patches), len(weight))


def blendedness(patches: Sequence[Patch], shape: tuple[int, ...]) -> Array:
    """Return 1 − Σ I_k² / Σ (I_k Σ_j I_j) of each source, ``(k,)``; see `measure.blendedness`."""
    total, out = total_light(patches, shape), np.full(len(patches), np.nan)
    for number, patch in enumerate(patches):
        own = patch.light.astype(np.float64)
        square = float((own**2).sum())
        with_others = float((own * total[:, *patch.box.slices]).sum())
        if square > 0 and with_others > 0:
            out[number] = 1 - square / with_others
    return out
