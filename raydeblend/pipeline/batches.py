"""The arrays in which a deblender gets the footprints of a cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from raydeblend.psf import TilePsf
from raydeblend.tile import Blend, Deblender, FloatArray


def deblender_image(blend: Blend) -> FloatArray:
    """Return the stamp with 0 for unusable pixels; a band that is missing is NaN."""
    missing = blend.unusable.all(axis=(1, 2), keepdims=True)
    usable = np.where(blend.unusable, np.float32(0), blend.image)
    return np.where(missing, np.float32(np.nan), usable)


def cores_for(deblender: Deblender, blends: Sequence[Blend]) -> dict[str, FloatArray]:
    """Return the argument `cores` of a deblender that takes it, see `raydeblend.tile.Deblender`."""
    if not getattr(deblender, "takes_cores", False) or all(b.cores is None for b in blends):
        return {}
    each = [np.zeros_like(b.image) if b.cores is None else b.cores for b in blends]
    return {"cores": np.stack(each)}


def stack_psf(psf: Sequence[FloatArray]) -> FloatArray:
    """Return PSF stamps of odd sizes as one array ``(bands, py, px)``, padded with zeros."""
    sizes = np.array([stamp.shape for stamp in psf])
    pads = (sizes.max(axis=0) - sizes) // 2
    return np.stack(
        [np.pad(stamp, ((py, py), (px, px))) for stamp, (py, px) in zip(psf, pads, strict=True)]
    )


def psf_for(deblender: Deblender, psf: TilePsf, blends: Sequence[Blend]) -> ArrayLike:
    """Return the PSF of blends as a deblender takes it; see `raydeblend.tile.Deblender`."""
    if psf.is_constant:
        return stack_psf(psf.at(0, 0))
    if getattr(deblender, "psf_by_place", False):
        # No arrays, which only those take that say so.
        return cast(ArrayLike, [psf.seen_in(blend.box) for blend in blends])
    each = [stamp for blend in blends for stamp in psf.at(*blend.on_tile(blend.xy)[0])]
    stamps = stack_psf(each)
    return stamps.reshape(len(blends), -1, *stamps.shape[1:])
