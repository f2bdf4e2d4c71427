"""Adaptive second moments by GalSim's hsm, as covariances that can be subtracted."""

from __future__ import annotations

import galsim
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def adaptive_moments(image: Array, xy: Array) -> Array:
    """Return the covariance of the Gaussian that matches an image best (Hirata & Seljak 2003).

    Parameters
    ----------
    image
        ``(y, x)``.
    xy
        ``(2,)`` where the light is, x and y in pixels; it is centered from there.

    Returns
    -------
    ``(2, 2)`` in pixels², axes (x, y); NaN where there is no such Gaussian.
    """
    if not (np.isfinite(image).all() and np.isfinite(xy).all() and image.sum() > 0):
        return np.full((2, 2), np.nan)
    found = galsim.hsm.FindAdaptiveMom(
        galsim.Image(np.ascontiguousarray(image), xmin=0, ymin=0),
        guess_centroid=galsim.PositionD(*xy),
        strict=False,
    )
    if found.error_message:
        return np.full((2, 2), np.nan)
    e1, e2 = found.observed_shape.e1, found.observed_shape.e2
    # Its size is the fourth root of the determinant.
    half_trace = found.moments_sigma**2 / np.sqrt(1 - e1**2 - e2**2)
    return np.asarray(half_trace * np.array([[1 + e1, e2], [e2, 1 - e1]]))


def shape_of(covariance: Array) -> tuple[float, float, float]:
    """Return T = <x²> + <y²> and the reduced shear (g1, g2) of a covariance ``(2, 2)``.

    NaN where the covariance is not one, as a galaxy's less the PSF's may not be.
    """
    size = covariance[0, 0] + covariance[1, 1]
    e1, e2 = (covariance[0, 0] - covariance[1, 1]) / size, 2 * covariance[0, 1] / size
    if not (size > 0 and np.hypot(e1, e2) < 1):
        return np.nan, np.nan, np.nan
    shear = galsim.Shear(e1=e1, e2=e2)
    return float(size), shear.g1, shear.g2
