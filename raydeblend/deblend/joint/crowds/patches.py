"""The light of one source on the pixels that it reaches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.blend_fit import BlendFit
from raydeblend.deblend.joint.config import BlockConfig
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.compiled.patch import draw_patch
from raydeblend.tile import BoolArray, Box, FloatArray


@dataclass(frozen=True)
class Patch:
    """A part of a stamp with the light of one source.

    Attributes
    ----------
    box
        Which pixels.
    light
        ``(bands, h, w)``.
    lit
        ``(h, w)`` where it is bright enough for the source to be fitted there.
    """

    box: Box
    light: FloatArray
    lit: BoolArray

    @classmethod
    def whole(cls, image: FloatArray) -> Patch:
        """Return the light ``(bands, y, x)`` of a source on all of a stamp."""
        return cls(Box(0, 0, *image.shape[1:]), image, np.ones(image.shape[1:], dtype=bool))

    def add_to(self, images: NDArray[np.floating], origin: tuple[int, int] = (0, 0)) -> None:
        """Add the light to images ``(bands, y, x)`` whose first pixel is `origin`, in place."""
        whole = Box(*origin, origin[0] + images.shape[1], origin[1] + images.shape[2])
        common = self.box.clip(whole)
        if common.y1 > common.y0 and common.x1 > common.x0:
            inner = common.shift(-self.box.y0, -self.box.x0).slices
            images[:, *common.shift(-origin[0], -origin[1]).slices] += self.light[:, *inner]

    def take_from(self, images: NDArray[np.floating]) -> None:
        """Take the light from images of the whole stamp, in place."""
        images[:, *self.box.slices] -= self.light


def draw(stamp: Stamp, fit: BlendFit, source: int, config: BlockConfig) -> Patch:
    """Return the patch of a source of a fit."""
    own = fit.theta[source], fit.flux[:, source], fit.place[:, source]
    return draw_source(stamp, *own, config)


def draw_source(
    stamp: Stamp,
    theta: NDArray[np.float64],
    flux: NDArray[np.float64],
    place: NDArray[np.int64],
    config: BlockConfig,
) -> Patch:
    """Return the patch of a source.

    Parameters
    ----------
    theta, flux, place
        ``(9,)``, ``(bands, 2)`` of disk and bulge, and ``(bands,)``; see `BlendFit`.
    """
    height, width = stamp.image.shape[1:]
    y0, x0, light = draw_patch(
        stamp.mixture,
        np.array(place, dtype=np.int64),
        np.array(theta, dtype=np.float64),
        np.array(flux, dtype=np.float64, order="C"),
        height,
        width,
        config.faintest_drawn,
    )
    box = Box(y0, x0, y0 + light.shape[1], x0 + light.shape[2])
    return Patch(box, light, light.max(0) > config.min_light)
