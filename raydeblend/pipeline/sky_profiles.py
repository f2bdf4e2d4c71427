"""Disks and bulges on the sky, as the catalog has them, and on pixels, as they are fitted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from raydeblend.catalog import PROFILE
from raydeblend.ellipses import PixelEllipses, SkyEllipses
from raydeblend.fit.parameters import LOG_INDEX, PARAMETERS, POSITION, SHAPES
from raydeblend.fit.sersic import LOG_INDICES

Array = NDArray[np.float64]

_DISK, _INDEX, _BULGE = ("disk_r50", "disk_q", "disk_pa"), "disk_n", PROFILE[4:]


def sky_profiles(profile: Array, jacobian: Array, pixel_scale: float) -> Mapping[str, Array]:
    """Return the columns `catalog.PROFILE` of n galaxies.

    Parameters
    ----------
    profile
        ``(n, 7)`` theta without the position, see `fit.parameters`.
    jacobian
        ``(n, 2, 2)``, see `sky_errors.sky_jacobian`.
    pixel_scale
        Arcsec per pixel.
    """
    theta = np.concatenate([np.zeros((len(profile), POSITION.stop)), profile], axis=1)
    columns = {_INDEX: np.exp(np.clip(theta[:, LOG_INDEX], *LOG_INDICES))}
    for names, (g1, g2, log_radius) in zip((_DISK, _BULGE), SHAPES, strict=True):
        radius = np.exp(theta[:, log_radius]) / pixel_scale
        seen = SkyEllipses.of_pixels(PixelEllipses(radius, theta[:, g1], theta[:, g2]), jacobian)
        columns |= dict(zip(names, (seen.radius, seen.ratio, seen.angle), strict=True))
    return columns


def pixel_profiles(columns: Mapping[str, Array], jacobian: Array, pixel_scale: float) -> Array:
    """Return theta ``(n, 9)`` at position 0 of galaxies that have the columns; see `sky_profiles`.

    NaN where a column is.
    """
    theta = np.zeros((len(jacobian), PARAMETERS))
    theta[:, LOG_INDEX] = np.log(columns[_INDEX])
    for names, (g1, g2, log_radius) in zip((_DISK, _BULGE), SHAPES, strict=True):
        on_sky = SkyEllipses(*(columns[name] for name in names))
        seen = PixelEllipses.of_sky(on_sky, jacobian)
        theta[:, g1], theta[:, g2] = seen.g1, seen.g2
        theta[:, log_radius] = np.log(seen.radius * pixel_scale)
    return theta
