"""What the sources of a blend must gain, in ln posterior, to be sources."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.deblend.joint.blend_fit import BlendFit
from raydeblend.deblend.joint.config import PruneConfig, SearchConfig
from raydeblend.deblend.joint.stamp import Stamp
from raydeblend.fit.parameters import COMPONENTS, PARAMETERS
from raydeblend.tile import FloatArray

Array = NDArray[np.float64]


def least_gain(stamp: Stamp, models: FloatArray, xy: Array, config: SearchConfig) -> float:
    """Return what a new source at a position must gain, over the light of the others there.

    Parameters
    ----------
    models
        ``(k, bands, y, x)`` of the others.
    """
    return float(least_gains(stamp, models, xy[None], config)[0])


def least_gains(stamp: Stamp, models: FloatArray, places: Array, config: SearchConfig) -> Array:
    """Return `least_gain` of each of some positions, ``(m, 2)``."""
    x, y = stamp.centers
    away = np.hypot(x - places[:, :1], y - places[:, 1:])
    under = away < config.underlying_radius * stamp.width
    light = np.where(under, stamp.squared_light(models), 0.0).sum(1)
    return np.asarray(least_gain_in_the_dark(stamp, config) + 0.5 * config.added_error**2 * light)


def least_gain_in_the_dark(stamp: Stamp, config: SearchConfig) -> float:
    """Return the least gain of a source where there is no other light."""
    bands = int((stamp.weights > 0).any(1).sum())
    parameters = PARAMETERS + COMPONENTS * bands
    return max(config.min_gain, config.gain_per_parameter * parameters)


def are_one(stamp: Stamp, fit: BlendFit, config: PruneConfig) -> bool:
    """Tell whether two sources of a fit are too close to be two galaxies."""
    return bool((separations(fit.xy) < config.min_separation * stamp.width).any())


def separations(xy: Array) -> Array:
    """Return the distances between any two of positions ``(k, 2)``, as `pdist` of SciPy does.

    That takes longer to be called than these few take.
    """
    first, second = np.triu_indices(len(xy), 1)
    return np.asarray(np.hypot(*(xy[first] - xy[second]).T))
