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
    best = list(fits)
    going = within_limit(best, range(len(best)), settings.limit)
    requests = {i: from_seen_sizes(stamps[i], start[i], settings) for i in going}
    large = [i for i, request in requests.items() if request.base is not None]
    for i, fit in zip(large, fit_requests([requests[i] for i in large], settings), strict=True):
        sane = not _has_grown(requests[i], fit, settings.config.large)
        best[i] = better_of(best[i], fit, sane and fit.objective < best[i].objective)
    return best


def _has_grown(request: FitRequest, fit: BlendFit, config: LargeConfig) -> bool:
    """Tell whether a disk is far larger than it is seen: it is not the galaxy's, but the sky's."""
    assert request.base is not None
    seen = np.exp(request.base.theta[:, LOG_RADIUS]) / request.stamp.pixel_scale
    most = config.most_growth * np.maximum(seen, config.min_radius * request.stamp.width)
    return bool((np.exp(fit.theta[:, LOG_RADIUS]) / request.stamp.pixel_scale > most).any())


def seen_radii(stamp: Stamp, xy: Array, config: LargeConfig) -> Array:
    """Return the half-light radii ``(k,)`` in pixels of what is seen about positions ``(k, 2)``.

    Each sample is light of the nearest position.  The radius is that of a circle as large as the
    brightest samples that hold half the light of a position, less that of the PSF.
    """
    weight = stamp.weights.sum(0)
    light = (stamp.weights * stamp.data).sum(0)
    seen = light > config.min_brightness * np.sqrt(weight)
    sizes, flux = stamp.sizes[seen], light[seen] / weight[seen]
    nearest = cKDTree(xy).query(stamp.centers.T[seen])[1]
    order = np.lexsort((-flux, nearest))
    radii = np.zeros(len(xy))
    for source in range(len(xy)):
        own = order[nearest[order] == source]
        total = np.cumsum(flux[own] * sizes[own])
        if len(own):
            half = np.searchsorted(total, total[-1] / 2) + 1
            area = sizes[own][:half].sum()
            radii[source] = np.sqrt(max(area / np.pi - (HALF_LIGHT_OF_PSF * stamp.width) ** 2, 0))
    return radii


def from_seen_sizes(stamp: Stamp, xy: Array, settings: FitSettings) -> FitRequest:
    """Return the request of a fit of sources at ``(k, 2)``, in which large ones have their size.

    Without any it has no base: all begin with the usual size.
    """
    config = settings.config.large
    radius = seen_radii(stamp, xy, config)
    large = radius > config.min_radius * stamp.width
    if not large.any():
        return FitRequest(stamp, xy, np.zeros(len(xy), dtype=bool))
    theta = np.zeros((len(xy), PARAMETERS))
    theta[:, POSITION] = xy
    theta[:, LOG_RADII] = settings.priors.log_radius
    theta[large, LOG_RADII] = np.log(radius[large] * stamp.pixel_scale)[:, None]
    theta[:, BULGE_LOG_RADIUS] += settings.priors.log_ratio
    return refit(stamp, without_sources(stamp).add(theta, compact=False))
