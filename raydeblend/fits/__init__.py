"""Tiles to and from FITS: one file per tile and band, as HSC and LSST write their coadds.

`find_tiles` plans from headers alone, `read_tile` reads one box of pixels, `write_band` writes
the same format.  Image, mask and variance are the HDUs named IMAGE, MASK and VARIANCE (EXTNAME
or EXTTYPE), or else HDUs 1, 2 and 3, or a single image in the primary HDU.
"""

from raydeblend.fits.headers import (
    IMAGE_PATTERN,
    PSF_PATTERN,
    TileFailure,
    find_tiles,
    njy_per_count,
)
from raydeblend.fits.pixels import (
    BAD_PLANES,
    estimate_variance,
    normalise_psf,
    read_tile,
    write_band,
)

__all__ = [
    "BAD_PLANES",
    "IMAGE_PATTERN",
    "PSF_PATTERN",
    "TileFailure",
    "estimate_variance",
    "find_tiles",
    "njy_per_count",
    "normalise_psf",
    "read_tile",
    "write_band",
]
