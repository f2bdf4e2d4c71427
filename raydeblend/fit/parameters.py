"""Which parameter of a galaxy stands where in theta.

Both kinds of galaxies begin with center (pixels) and shear.  One of a single profile
(`profile_model`) then has ln T (T in arcsec²) and, for ``bdf``, the concentration (`profiles`);
one of bulge and disk (`bulge_disk`) has ln of the half-light radii (arcsec) of disk and bulge, the
bulge's own shear, and ln of the disk's Sérsic index.
"""

from __future__ import annotations

X, Y, G1, G2 = range(4)
POSITION = slice(X, Y + 1)
SHEAR = slice(G1, G2 + 1)

LOG_T, CONCENTRATION = 4, 5

LOG_RADIUS, BULGE_LOG_RADIUS, BULGE_G1, BULGE_G2 = range(4, 8)
LOG_RADII = slice(LOG_RADIUS, BULGE_LOG_RADIUS + 1)
BULGE_SHEAR = slice(BULGE_G1, BULGE_G2 + 1)
SHEARS = (G1, G2, BULGE_G1, BULGE_G2)
LOG_INDEX = 8
PARAMETERS = 9
"""Of a bulge + disk galaxy."""

DISK, BULGE = range(2)
"""Its components, as their fluxes are ordered."""
COMPONENTS = 2
SHAPES = ((G1, G2, LOG_RADIUS), (BULGE_G1, BULGE_G2, BULGE_LOG_RADIUS))
"""Shear and size of disk and of bulge."""
