"""Stars on the stellar locus, in the numbers of a field like COSMOS."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from raydeblend.simulate.stars import disk_counts, spheroid_counts
from raydeblend.survey import NJY_ZERO_POINT

FloatArray = NDArray[np.float64]

LOCUS = np.array(
    [
        [0.2, 1.05, 0.20, 0.00, -0.02],
        [0.5, 1.13, 0.39, 0.11, 0.04],
        [1.0, 1.75, 0.74, 0.26, 0.14],
        [1.5, 2.25, 1.06, 0.44, 0.25],
        [2.0, 2.55, 1.31, 0.69, 0.38],
        [2.5, 2.62, 1.39, 1.11, 0.61],
        [3.0, 2.62, 1.43, 1.57, 0.86],
        [3.6, 2.70, 1.52, 2.08, 1.15],
    ]
)
"""g - i, u - g, g - r, r - i, i - z of dwarfs (after Covey et al. 2007, AJ 134, 2398, table 3)."""
ZY_PER_IZ = 0.5
SCATTER = 0.03
"""Magnitudes by which a star is off the locus, in each color."""
V_RANGE = (15.0, 27.0)
I_BRIGHTEST = 15.5
"""Brighter stars are masked with their haloes (Coupon et al. 2018, PASJ 70, S7)."""
# The median g - i of the disk's stars reddens to M dwarfs; the spheroid's turn-off stays blue.
DISK_GI, DISK_GI_SCATTER = ((17.0, 1.3), (22.0, 2.5)), 0.5
SPHEROID_GI, SPHEROID_GI_SCATTER = ((20.0, 0.55), (26.0, 1.1)), 0.15


def draw_locus_stars(area: float, bands: tuple[str, ...], rng: np.random.Generator) -> FloatArray:
    """Draw the stars of i > 15.5 and V < 27 in `area` arcmin²: ``(n, bands)`` fluxes in nJy.

    Counts are Bahcall & Soneira's, see `raydeblend.simulate.stars`.
    """
    magnitudes = []
    for counts, ((v0, c0), (v1, c1)), scatter in (
        (disk_counts, DISK_GI, DISK_GI_SCATTER),
        (spheroid_counts, SPHEROID_GI, SPHEROID_GI_SCATTER),
    ):
        v = np.linspace(*V_RANGE, 241)
        brighter = (counts(v) - counts(v[:1])) * area / 3600
        n = rng.poisson(brighter[-1])
        drawn = np.interp(rng.uniform(0, brighter[-1], n), brighter, v)
        gi = np.interp(drawn, [v0, v1], [c0, c1]) + scatter * rng.standard_normal(n)
        # V = g - 0.59 (g - r) - 0.01 (Jester et al. 2005, AJ 130, 873).
        gi = np.clip(gi, LOCUS[0, 0], LOCUS[-1, 0])
        magnitude_i = drawn - gi + 0.59 * np.interp(gi, LOCUS[:, 0], LOCUS[:, 2]) + 0.01
        magnitudes.append(star_magnitudes(magnitude_i, gi, bands, rng)[magnitude_i > I_BRIGHTEST])
    return np.asarray(10 ** (0.4 * (NJY_ZERO_POINT - np.concatenate(magnitudes))))


def star_magnitudes(
    magnitude_i: FloatArray, gi: FloatArray, bands: tuple[str, ...], rng: np.random.Generator
) -> FloatArray:
    """Return AB magnitudes ``(n, bands)`` of stars of i and g - i ``(n,)``."""
    ug, gr, ri, iz = (
        np.interp(gi, LOCUS[:, 0], color) + SCATTER * rng.standard_normal(len(gi))
        for color in LOCUS.T[1:]
    )
    table = {"i": magnitude_i, "r": magnitude_i + ri, "z": magnitude_i - iz}
    table["g"] = table["r"] + gr
    table["u"] = table["g"] + ug
    table["y"] = table["z"] - ZY_PER_IZ * iz
    return np.stack([table.get(band, magnitude_i) for band in bands], axis=1)
