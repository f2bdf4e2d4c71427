"""Tiles to and from FITS, in the layouts of surveys (`raydeblend.fits.layouts`).

`find_tiles` plans from headers alone, `read_tile` reads one box of pixels, `write_band` writes one
band in the native layout: image, mask and variance are HDUs named IMAGE, MASK and VARIANCE, or
another name that the layout knows, or else HDUs 1, 2 and 3, or a single image in the primary HDU.
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
