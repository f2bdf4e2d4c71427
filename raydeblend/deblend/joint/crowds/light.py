"""What the patches of a crowd's sources say together: light under each, and images of all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.crowds.patches import Patch
from raydeblend.measure.blendedness import blendedness_in, neighbor_flux_in
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
    """Return the flux ``(k, bands)`` of others under each: `measure.blendedness.neighbor_flux`."""
    total = total_light(patches, weight.shape)
    windows = [(slice(None), *patch.box.slices) for patch in patches]
    rows = [
        neighbor_flux_in(total[window], patch.light.astype(np.float64), weight[window])
        for patch, window in zip(patches, windows, strict=True)
    ]
    return np.array(rows).reshape(len(patches), len(weight))


def blendedness(patches: Sequence[Patch], shape: tuple[int, ...]) -> Array:
    """Return that of each source ``(k,)``: `measure.blendedness.blendedness`."""
    total = total_light(patches, shape)
    return np.array(
        [
            blendedness_in(total[:, *patch.box.slices], patch.light.astype(np.float64))
            for patch in patches
        ]
    )
