"""Which catalog sources are really two or more: the truth behind `p_unrecognized_blend`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from raydeblend.detect.matching import match_sky

Floats = NDArray[np.float64]

RADIUS = 0.8
"""Arcsec within which another true source makes a catalog source a blend."""
FLUX_RATIO = 0.1
"""Least flux of the other over that of the one, in the reference band."""
MATCH_RADIUS = 0.5
"""Arcsec within which a true source can be that of a catalog source."""


def unrecognized_blends(found: Floats, true: Floats, flux: Floats) -> NDArray[np.bool_]:
    """Tell which catalog sources ``(n,)`` hold a true source that the catalog has not.

    Catalog and truth are matched one to one, the brightest true source choosing first.  A true
    source without a match counts for the nearest catalog source, if it is within `RADIUS` and has
    at least `FLUX_RATIO` of the flux of that one's own match.  A catalog source without a match
    is no blend.

    Parameters
    ----------
    found, true
        ``(n, 2)`` and ``(m, 2)`` positions on a plane, in arcsec.
    flux
        ``(m,)`` in the reference band.
    """
    blended = np.zeros(len(found), dtype=bool)
    if not len(found) or not len(true):
        return blended
    match = match_sky(true, flux, found, MATCH_RADIUS)
    own = np.zeros(len(found))
    own[match[match >= 0]] = flux[match >= 0]
    missed = match < 0
    if not missed.any():
        return blended
    distance, nearest = cKDTree(found).query(true[missed])
    enough = (own[nearest] > 0) & (flux[missed] >= FLUX_RATIO * own[nearest])
    blended[nearest[enough & (distance <= RADIUS)]] = True
    return blended
