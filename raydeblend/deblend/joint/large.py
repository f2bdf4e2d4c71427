"""Galaxies that are seen to be large, tried from that size.

A fit begins with galaxies of usual size.  From there it may reach another minimum when one is large
and bright: its profile as steep as possible, or the bulge of its neighbor spread over the blend.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from raydeblend.deblend.joint.blend_fit import (
    BlendFit,
    FitRequest,
    better_of,
    refit,
    without_sources,
)
from raydeblend.deblend.joint.config import LargeConfig
from raydeblend.deblend.joint.fitting import fit_requests
from raydeblend.deblend.joint.prune import within_limit
from raydeblend.deblend.joint.settings import FitSettings
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.parameters import BULGE_LOG_RADIUS, LOG_RADII, LOG_RADIUS, PARAMETERS, POSITION
from raydeblend.tile import FloatArray

Array = NDArray[np.float64]
HALF_LIGHT_OF_PSF = np.sqrt(2 * np.log(2))
"""Half-light radius of a Gaussian over its standard deviation."""


def try_large(
    stamps: Sequence[Stamp],
    start: Sequence[Array],
    fits: Sequence[BlendFit],
    settings: FitSettings,
) -> list[BlendFit]:
    """Fit the blends with large galaxies once more from their seen sizes; return the better fits.

    `start` holds the expected positions ``(k, 2)`` of the sources of each stamp.
    """
    best, config = list(fits), settings.config.large
    sizes: dict[int, Array] = {}
    for i in within_limit(best, range(len(best)), settings.limit):
        radii = seen_radii(stamps[i], start[i], config)
        if (radii > config.min_radius * stamps[i].width).any():
            sizes[i] = radii
    requests = [_from_seen(stamps[i], start[i], radii, settings) for i, radii in sizes.items()]
    for i, fit in zip(sizes, fit_requests(requests, settings), strict=True):
        sane = not _has_grown(fit, stamps[i], sizes[i], config)
        best[i] = better_of(best[i], fit, sane and fit.objective < best[i].objective)
    return best


def seen_radii(stamp: Stamp, xy: Array, config: LargeConfig) -> Array:
    """Return the half-light radii ``(k,)`` in pixels of what is seen about positions ``(k, 2)``.

    Each sample is light of the nearest position.
    """
    weight = stamp.weights.sum(0)
    light = (stamp.weights * stamp.data).sum(0)
    seen = light > config.min_brightness * np.sqrt(weight)
    sizes, brightness = stamp.sizes[seen], light[seen] / weight[seen]
    nearest = cKDTree(xy).query(stamp.centers.T[seen])[1]
    own = [nearest == source for source in range(len(xy))]
    return np.array([_half_light_radius(brightness[i], sizes[i], stamp.width) for i in own])


def _half_light_radius(brightness: FloatArray, sizes: NDArray[np.intp], width: float) -> float:
    """Return the radius of a circle as large as the brightest samples ``(s,)`` with half the light.

    It is less that of a PSF of some `width`, in quadrature; 0 where nothing is seen.
    """
    if not len(brightness):
        return 0.0
    order = np.argsort(-brightness, kind="stable")
    total = np.cumsum(brightness[order] * sizes[order])
    area = sizes[order][: np.searchsorted(total, total[-1] / 2) + 1].sum()
    return float(np.sqrt(max(area / np.pi - (HALF_LIGHT_OF_PSF * width) ** 2, 0)))


def _from_seen(stamp: Stamp, xy: Array, radii: Array, settings: FitSettings) -> FitRequest:
    """Return the request of a fit in which sources that are seen to be large begin so."""
    large = radii > settings.config.large.min_radius * stamp.width
    theta = np.zeros((len(xy), PARAMETERS))
    theta[:, POSITION] = xy
    theta[:, LOG_RADII] = settings.priors.log_radius
    theta[large, LOG_RADII] = np.log(radii[large] * stamp.pixel_scale)[:, None]
    theta[:, BULGE_LOG_RADIUS] += settings.priors.log_ratio
    return refit(stamp, without_sources(stamp).add(theta, compact=False))


def _has_grown(fit: BlendFit, stamp: Stamp, radii: Array, config: LargeConfig) -> bool:
    """Tell whether a disk is far larger than it is seen: it is not the galaxy's, but the sky's."""
    most = config.most_growth * np.maximum(radii, config.min_radius * stamp.width)
    return bool((np.exp(fit.theta[:, LOG_RADIUS]) / stamp.pixel_scale > most).any())
