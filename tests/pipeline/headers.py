"""Tile headers on one sky grid, made without files."""

from astropy.wcs import WCS

from raydeblend.tile import TileHeader

SCALE = 0.168


def make_header(name, shape=(300, 300), origin=(0, 0), bands=("i",), crval=(150.0, 2.0)):
    """A tile whose first pixel is pixel `origin` (x, y) of the sky grid about `crval`."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = crval
    wcs.wcs.crpix = [1 - origin[0], 1 - origin[1]]
    wcs.wcs.cdelt = [-SCALE / 3600, SCALE / 3600]
    files = (None,) * len(bands)
    cards = wcs.to_header().tostring(endcard=False, padding=False)
    return TileHeader(name, bands, files, shape, cards, SCALE)
