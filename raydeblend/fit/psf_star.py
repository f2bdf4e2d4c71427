"""How wide a star is in its PSF, where that is the one of another place or another night.

The PSF keeps its shape.  With free parts of the light for each of its Gaussians a star would take
its neighbors' light for its wings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.fit.least_squares import minimize
from raydeblend.fit.psf import PsfMixture

Array = NDArray[np.float64]

MOST_STEPS = 40


def width_in_psf(psf: PsfMixture, image: Array, weight: Array, xy: Array, start: Array) -> float:
    """Return the width of a source over that of a PSF, which is fitted with all widths times that.

    1 where to first order the source is as wide as the PSF or wider, which most are.

    Parameters
    ----------
    image, weight
        Pixels ``(p,)`` about the source, and their inverse variances.
    xy
        ``(2, p)`` where they are, (x, y).
    start
        ``(2,)`` about where the source is; its exact place is fitted.
    """
    root = np.sqrt(weight)
    shape = root * _star(psf, np.array([*start, 0.0, 1.0]), xy)[0]
    flux = (shape @ (root * image)) / (shape @ shape)

    def residuals(q: Array) -> tuple[Array, Array]:
        light, slopes = _star(psf, q, xy)
        return root * (light - image), root * slopes

    first = np.array([*start, 0.0, flux])
    off, slopes = residuals(first)
    if not (flux > 0 and np.linalg.solve(slopes @ slopes.T, -slopes @ off)[2] < 0):
        return 1.0
    return float(np.exp(minimize(residuals, first, MOST_STEPS)[2]))


def _star(psf: PsfMixture, q: Array, xy: Array) -> tuple[Array, Array]:
    """Return the light ``(p,)`` of a star and its derivatives ``(4, p)``.

    By place (x, y), ln of the factor of widths, and flux.
    """
    shrink = np.exp(-2 * q[2])
    offset = xy - q[:2, None]
    slant = shrink * (np.linalg.inv(psf.covariances) @ offset)
    square = (slant * offset).sum(1)
    top = shrink * psf.weights / (2 * np.pi * np.sqrt(np.linalg.det(psf.covariances)))
    unit = top[:, None] * np.exp(-0.5 * square)
    light = q[3] * unit
    by_center, by_width = (light[:, None] * slant).sum(0), (light * (square - 2)).sum(0)
    return light.sum(0), np.stack([*by_center, by_width, unit.sum(0)])
