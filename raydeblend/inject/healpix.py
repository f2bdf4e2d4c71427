"""Pixels of HEALPix in the ring scheme (Gorski et al. 2005, ApJ 622, 759, section 4.1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
LARGEST_NSIDE = 1 << 29


def ring_pixels(nside: int, ra: FloatArray, dec: FloatArray) -> NDArray[np.int64]:
    """Return the pixel ``(n,)`` of each position ``(n,)`` in degrees."""
    z = np.sin(np.radians(dec))
    # In quarters of a turn, 0 to 4.
    turn = np.mod(ra, 360.0) / 90.0
    near_pole = np.abs(z) > 2 / 3
    return np.where(near_pole, _polar(nside, z, turn), _equatorial(nside, z, turn))


def _equatorial(nside: int, z: FloatArray, turn: FloatArray) -> NDArray[np.int64]:
    up, down = nside * (0.5 + turn), nside * z * 0.75
    rising, falling = (np.floor(v).astype(np.int64) for v in (up - down, up + down))
    ring = nside + 1 + rising - falling
    shift = 1 - ring % 2
    column = ((rising + falling - nside + shift + 1) // 2) % (4 * nside)
    return np.asarray(2 * nside * (nside - 1) + (ring - 1) * 4 * nside + column)


def _polar(nside: int, z: FloatArray, turn: FloatArray) -> NDArray[np.int64]:
    part = turn - np.floor(turn)
    reach = nside * np.sqrt(3 * np.maximum(1 - np.abs(z), 0))
    rising, falling = (np.floor(v * reach).astype(np.int64) for v in (part, 1 - part))
    ring = rising + falling + 1
    column = np.floor(turn * ring).astype(np.int64) % (4 * ring)
    north, south = 2 * ring * (ring - 1) + column, 12 * nside**2 - 2 * ring * (ring + 1) + column
    return np.asarray(np.where(z > 0, north, south))
