"""Tiles planned from headers alone: shape, WCS and zero point of every band."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, WcsError, Wcsprm

from raydeblend import storage
from raydeblend.errors import TileError
from raydeblend.fits import inputs
from raydeblend.fits.hdus import PLANES, by, find_planes, open_hdus
from raydeblend.fits.layouts import match_layout
from raydeblend.fits.manifest import read_manifest
from raydeblend.survey import NJY_ZERO_POINT
from raydeblend.tile import BandFile, TileHeader

IMAGE_PATTERN = "{tile}_{band}.fits"
PSF_PATTERN = "{tile}_{band}_psf.fits"

# Opening a file on s3 is waiting, not work.
THREADS = 16
# Bands whose pixels lie further apart than this (pixels) are not on one grid.
GRID_TOLERANCE = 0.1


@dataclass(frozen=True)
class TileFailure:
    """A tile that cannot be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class TileFiles:
    """A tile's files by band."""

    name: str
    files: Mapping[str, inputs.Source]


Planned = TileHeader | TileFailure
Reader = Callable[[Sequence[TileFiles], tuple[str, ...], float | None], Iterable[Planned]]


def find_tiles(
    root: str,
    bands: tuple[str, ...],
    image_pattern: str = IMAGE_PATTERN,
    psf_pattern: str = PSF_PATTERN,
    manifest: str | None = None,
    zeropoint: float | None = None,
    layout: str = "native",
    read: Reader | None = None,
) -> tuple[list[TileHeader], list[TileFailure]]:
    """Find the tiles below `root` and read their headers, never their pixels.

    Parameters
    ----------
    root
        Directory or ``s3://bucket/prefix``; paths in patterns and manifest are relative to it.
    bands
        Bands to look for; a tile may lack some of them.
    image_pattern, psf_pattern
        See `raydeblend.fits.inputs.match_patterns`.
    manifest
        See `raydeblend.fits.manifest.read_manifest`; it replaces the patterns.
    zeropoint
        AB magnitude of one count, for files that carry neither FLUXMAG0 nor MAGZERO.
    layout
        How a survey names its files, see `raydeblend.fits.layouts`; it replaces the patterns.
    read
        Reads the headers of many tiles: `read_headers`, or that on many machines.

    Returns
    -------
    headers, failures
        Sorted by name; a tile is in exactly one of the two.

    Raises
    ------
    ConfigError
        If the input as a whole cannot be used.
    """
    storage.check_readable(root)
    if manifest:
        found = read_manifest(root, manifest, bands)
    elif layout != "native":
        found = match_layout(root, bands, layout)
    else:
        found = inputs.match_patterns(root, bands, image_pattern, psf_pattern)
    inputs.check_names(found)
    tiles = [TileFiles(name, found[name]) for name in sorted(found)]
    planned = list((read or read_headers)(tiles, bands, zeropoint))
    headers = [tile for tile in planned if isinstance(tile, TileHeader)]
    return headers, [tile for tile in planned if isinstance(tile, TileFailure)]


def read_headers(
    tiles: Sequence[TileFiles], bands: tuple[str, ...], zeropoint: float | None
) -> list[Planned]:
    """Read the headers of many tiles at once, in order; see `find_tiles`."""
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        # astropy warns of what is raised here as an error, or of cards nobody reads.
        warnings.simplefilter("ignore")
        return list(pool.map(lambda tile: _plan_tile(tile, bands, zeropoint), tiles))


def _plan_tile(tile: TileFiles, bands: tuple[str, ...], zeropoint: float | None) -> Planned:
    try:
        return _tile_header(tile, bands, zeropoint)
    except TileError as error:
        return TileFailure(tile.name, str(error))


def njy_per_count(zeropoint: float) -> float:
    """Return the flux in nJy of one count at an AB zero point (57.544 at 27)."""
    return float(10 ** (0.4 * (NJY_ZERO_POINT - zeropoint)))


def _tile_header(tile: TileFiles, bands: tuple[str, ...], zeropoint: float | None) -> TileHeader:
    """Bring the bands of one tile together; they must share one pixel grid."""
    found: dict[str, BandFile] = {}
    first: tuple[str, inputs.Grid] | None = None
    for band, source in tile.files.items():
        grid = source.grid or _read_grid(source.image, zeropoint)
        first = first or (source.image, grid)
        _check_same_grid(first, (source.image, grid))
        stamp = source.stamp if source.stamp or source.grid else _stamp(source)
        found[band] = BandFile(band, source.image, source.psf, grid.njy_per_count, stamp)
    if first is None:
        raise TileError(f"{tile.name} has no file")
    return TileHeader(
        name=tile.name,
        bands=bands,
        files=tuple(found.get(band) for band in bands),
        shape=first[1].shape,
        wcs=first[1].wcs,
        pixel_scale=_pixel_scale(*first),
    )


def _stamp(source: inputs.Source) -> str:
    """Ask for what changes when the files do; empty if one cannot be reached."""
    try:
        return " ".join(storage.stamp(path) for path in (source.image, source.psf) if path)
    except storage.READ_ERRORS:
        return ""


def _read_grid(path: str, zeropoint: float | None) -> inputs.Grid:
    with open_hdus(path) as hdus:
        planes = find_planes(path, hdus)
        shape = planes["IMAGE"].shape
        for name in PLANES:
            other = planes.get(name, planes["IMAGE"]).shape
            if other != shape:
                raise TileError(f"{path}: IMAGE is {by(shape)} pixels, {name} {by(other)}")
        cards = hdus[0].header, planes["IMAGE"].header
    return inputs.Grid(shape, _celestial_cards(path, cards[1]), _zero_point(path, cards, zeropoint))


def _core(path: str, grid: inputs.Grid) -> Wcsprm:
    """Return the celestial WCS without astropy's layers, twenty times faster than with them."""
    try:
        core = Wcsprm(header=grid.wcs.encode(), relax=True)
        core.set()
    except (WcsError, ValueError) as error:
        raise TileError(f"{path} has a bad WCS: {' '.join(str(error).split())}") from error
    if min(core.lng, core.lat) < 0:
        raise TileError(f"{path} has no celestial WCS")
    return core


def _pixel_scale(path: str, grid: inputs.Grid) -> float:
    """Return the geometric mean of a pixel's sides in arcsec."""
    core = _core(path, grid)
    matrix = core.get_pc() * core.get_cdelt()[:, None]
    return float(np.sqrt(np.prod(np.sqrt((matrix**2).sum(axis=0))))) * 3600


def _celestial_cards(path: str, header: fits.Header) -> str:
    """Return the cards of a header's celestial WCS, without the blocks' padding."""
    try:
        wcs = WCS(header, naxis=2)
        corner = wcs.wcs_pix2world([[0.0, 0.0]], 0)
    except (WcsError, ValueError) as error:
        raise TileError(f"{path} has a bad WCS: {' '.join(str(error).split())}") from error
    if not (wcs.has_celestial and np.isfinite(corner).all()):
        raise TileError(f"{path} has no celestial WCS")
    return str(wcs.to_header(relax=True).tostring(endcard=False, padding=False))


def _check_same_grid(one: tuple[str, inputs.Grid], other: tuple[str, inputs.Grid]) -> None:
    (path_a, a), (path_b, b) = one, other
    if a.shape != b.shape:
        raise TileError(
            f"bands differ in shape: {path_a} is {by(a.shape)}, {path_b} {by(b.shape)} pixels"
        )
    if a.wcs == b.wcs:
        return
    for path, grid in (one, other):
        _core(path, grid)
    wcs_a, wcs_b = (WCS(fits.Header.fromstring(grid.wcs)) for grid in (a, b))
    corners = np.array([[0.0, 0.0], [a.shape[1] - 1.0, a.shape[0] - 1.0]])
    offset = wcs_b.wcs_world2pix(wcs_a.wcs_pix2world(corners, 0), 0) - corners
    if not np.abs(offset).max() <= GRID_TOLERANCE:
        raise TileError(f"{path_a} and {path_b} are not on one pixel grid")


def _zero_point(path: str, headers: Sequence[fits.Header], zeropoint: float | None) -> float:
    """Return the nJy of one count, from FLUXMAG0, else MAGZERO, else `zeropoint`."""
    for card in ("FLUXMAG0", "MAGZERO"):
        for cards in headers:
            if card in cards:
                return _from_card(path, card, cards[card])
    if zeropoint is None:
        raise TileError(f"{path} has no zero point (FLUXMAG0 or MAGZERO)")
    return njy_per_count(zeropoint)


def _from_card(path: str, card: str, value: object) -> float:
    if isinstance(value, int | float) and np.isfinite(value):
        if card == "MAGZERO":
            return njy_per_count(value)
        if value > 0:
            return njy_per_count(0) / value
    raise TileError(f"{path} has an unusable zero point: {card} = {value!r}")
