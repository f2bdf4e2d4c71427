"""Ellipses on pixels and on the sky, and how one becomes the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SkyEllipses:
    """n ellipses on the sky.

    Attributes
    ----------
    radius
        ``(n,)`` circularized: the root of the product of the half axes, in arcsec.
    ratio
        ``(n,)`` minor over major axis.
    angle
        ``(n,)`` position angle of the major axis, in degrees from north through east, from 0 to
        180.
    """

    radius: Array
    ratio: Array
    angle: Array

    @classmethod
    def of_pixels(cls, ellipses: PixelEllipses, jacobian: Array) -> SkyEllipses:
        """Return what ellipses on pixels are on the sky.

        `jacobian` ``(n, 2, 2)`` is d(east, north) / d(x, y) in arcsec per pixel.
        """
        radius, shear = _shape_of(jacobian @ ellipses.moments @ jacobian.swapaxes(1, 2))
        modulus = np.abs(shear)
        from_east = np.degrees(np.angle(shear)) / 2
        return cls(radius, (1 - modulus) / (1 + modulus), np.mod(90 - from_east, 180))

    @property
    def moments(self) -> Array:
        """The matrices ``(n, 2, 2)`` along east and north whose axes are theirs, squared."""
        shear = (1 - self.ratio) / (1 + self.ratio) * np.exp(2j * np.radians(90 - self.angle))
        return PixelEllipses(self.radius, shear.real, shear.imag).moments


@dataclass(frozen=True)
class PixelEllipses:
    """n ellipses on pixels.

    Attributes
    ----------
    radius
        ``(n,)`` circularized, in pixels.
    g1, g2
        ``(n,)`` reduced shear along the x axis and at 45 degrees to it.
    """

    radius: Array
    g1: Array
    g2: Array

    @classmethod
    def of_sky(cls, ellipses: SkyEllipses, jacobian: Array) -> PixelEllipses:
        """Return what ellipses on the sky are on pixels; see `SkyEllipses.of_pixels`."""
        inverse = np.linalg.inv(jacobian)
        radius, shear = _shape_of(inverse @ ellipses.moments @ inverse.swapaxes(1, 2))
        return cls(radius, shear.real, shear.imag)

    @property
    def moments(self) -> Array:
        """The matrices ``(n, 2, 2)`` whose axes are theirs, squared."""
        square = self.g1**2 + self.g2**2
        off = 2 * self.g2
        rows = [[1 + square + 2 * self.g1, off], [off, 1 + square - 2 * self.g1]]
        return np.moveaxis(self.radius**2 / (1 - square) * np.array(rows), -1, 0)


def _shape_of(moments: Array) -> tuple[Array, NDArray[np.complex128]]:
    """Return the circularized radius and the shear g1 + i g2 of matrices ``(n, 2, 2)``."""
    trace = moments[:, 0, 0] + moments[:, 1, 1]
    # What is not known is NaN, of which complex numbers warn.
    with np.errstate(invalid="ignore"):
        distortion = (moments[:, 0, 0] - moments[:, 1, 1] + 2j * moments[:, 0, 1]) / trace
        rest = np.sqrt(np.maximum(1 - np.abs(distortion) ** 2, 0))
        return np.sqrt(trace / 2 * rest), distortion / (1 + rest)
