"""The arrays in which a deblender gets the footprints of a cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raydeblend.tile import Blend, FloatArray


def deblender_image(blend: Blend) -> FloatArray:
    """Return the stamp with 0 for unusable pixels; a band that is missing is NaN."""
    missing = blend.unusable.all(axis=(1, 2), keepdims=True)
    usable = np.where(blend.unusable, np.float32(0), blend.image)
    return np.where(missing, np.float32(np.nan), usable)


def stack_psf(psf: Sequence[FloatArray]) -> FloatArray:
    """Return PSF stamps of odd sizes as one array ``(bands, py, px)``, padded with zeros."""
    sizes = np.array([stamp.shape for stamp in psf])
    pads = (sizes.max(axis=0) - sizes) // 2
    return np.stack(
        [np.pad(stamp, ((py, py), (px, px))) for stamp, (py, px) in zip(psf, pads, strict=True)]
    )
