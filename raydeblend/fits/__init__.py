"""Tiles to and from FITS: one file per tile and band, as HSC and LSST write their coadds.

`find_tiles` plans from headers alone, `read_tile` reads one box of pixels, `write_band` writes
the same format.  Image, mask and variance are the HDUs named IMAGE, MASK and VARIANCE (EXTNAME
or EXTTYPE, or another name that `raydeblend.fits.planes` knows), or else HDUs 1, 2 and 3, or a
single image in the primary HDU.
"""

from raydeblend.fits.headers import (
    TileFailure,
    find_tiles,
)
from raydeblend.fits.pixels import (
    read_tile,
    write_band,
)
from raydeblend.fits.raw import read_realization
from raydeblend.fits.zero_points import check_zero_point, njy_per_count

__all__ = [
    "TileFailure",
    "check_zero_point",
    "find_tiles",
    "njy_per_count",
    "read_realization",
    "read_tile",
    "write_band",
]
