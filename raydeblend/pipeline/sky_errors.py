"""Errors of positions on the sky from those in pixels, and how the sky lies on the pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.pipeline.ownership import to_sky
from raydeblend.tile import TileHeader

Array = NDArray[np.float64]

STEP = 0.5
"""Pixels to each side over which the WCS is differentiated."""


def sky_covariance(jacobian: Array, covariance: Array) -> Array:
    """Return the covariances ``(n, 2, 2)`` of (ra cos dec, dec) in arcsec².

    Parameters
    ----------
    jacobian
        ``(n, 2, 2)``, see `sky_jacobian`.
    covariance
        ``(n, 2, 2)`` of x and y in pixels².
    """
    return np.asarray(np.einsum("nai,nij,nbj->nab", jacobian, covariance, jacobian))


def sky_jacobian(header: TileHeader, xy: Array) -> Array:
    """Return d(ra cos dec, dec) / d(x, y) in arcsec per pixel, ``(n, 2, 2)``.

    At tile pixels `xy` ``(n, 2)``.
    """
    out = np.empty((len(xy), 2, 2))
    for axis in range(2):
        step = STEP * (np.arange(2) == axis)
        ahead, behind = to_sky(header, xy + step), to_sky(header, xy - step)
        east, north = behind.spherical_offsets_to(ahead)
        out[:, 0, axis], out[:, 1, axis] = east.arcsec, north.arcsec
    return out / (2 * STEP)
