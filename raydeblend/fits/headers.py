"""Tiles planned from headers alone: shape, WCS and zero point of every band."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, WcsError
from astropy.wcs.utils import proj_plane_pixel_scales

from raydeblend import storage
from raydeblend.errors import TileError
from raydeblend.fits import inputs
from raydeblend.fits.hdus import PLANES, by, find_planes, open_hdus
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
class _FileHeader:
    """What one file's headers say."""

    path: str
    shape: tuple[int, int]
    primary: fits.Header
    image: fits.Header


def find_tiles(
    root: str,
    bands: tuple[str, ...],
    image_pattern: str = IMAGE_PATTERN,
    psf_pattern: str = PSF_PATTERN,
    manifest: str | None = None,
    zeropoint: float | None = None,
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
        See `raydeblend.fits.inputs.read_manifest`; it replaces the patterns.
    zeropoint
        AB magnitude of one count, for files that carry neither FLUXMAG0 nor MAGZERO.

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
        found = inputs.read_manifest(root, manifest, bands)
    else:
        found = inputs.match_patterns(root, bands, image_pattern, psf_pattern)
    files = _read_headers([file.image for tile in found.values() for file in tile.values()])
    headers, failures = [], []
    for name in sorted(found):
        try:
            headers.append(_tile_header(name, bands, found[name], files, zeropoint))
        except TileError as error:
            failures.append(TileFailure(name, str(error)))
    return headers, failures


def njy_per_count(zeropoint: float) -> float:
    """Return the flux in nJy of one count at an AB zero point (57.544 at 27)."""
    return float(10 ** (0.4 * (NJY_ZERO_POINT - zeropoint)))


def _read_headers(paths: list[str]) -> dict[str, _FileHeader | TileError]:
    """Read many files' headers at once; a bad file gives its error in place of a header."""
    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as pool:
        # astropy warns of what is raised here as an error, or of cards nobody reads.
        warnings.simplefilter("ignore")
        return dict(zip(paths, pool.map(_read_header, paths), strict=True))


def _read_header(path: str) -> _FileHeader | TileError:
    try:
        with open_hdus(path) as hdus:
            planes = find_planes(path, hdus)
            shape = planes["IMAGE"].shape
            for name in PLANES:
                other = planes.get(name, planes["IMAGE"]).shape
                if other != shape:
                    raise TileError(f"{path}: IMAGE is {by(shape)} pixels, {name} {by(other)}")
            return _FileHeader(path, shape, hdus[0].header, planes["IMAGE"].header)
    except TileError as error:
        return error


def _tile_header(
    name: str,
    bands: tuple[str, ...],
    sources: Mapping[str, inputs.Source],
    files: Mapping[str, _FileHeader | TileError],
    zeropoint: float | None,
) -> TileHeader:
    """Bring the bands of one tile together; they must share one pixel grid."""
    found: dict[str, BandFile] = {}
    grids: list[tuple[_FileHeader, WCS]] = []
    for band, source in sources.items():
        file = files[source.image]
        if isinstance(file, TileError):
            raise file
        grids.append((file, _celestial_wcs(file)))
        _check_same_grid(grids[0], grids[-1])
        found[band] = BandFile(band, source.image, source.psf, _zero_point(file, zeropoint))
    file, wcs = grids[0]
    return TileHeader(
        name=name,
        bands=bands,
        files=tuple(found.get(band) for band in bands),
        shape=file.shape,
        wcs=wcs.to_header_string(relax=True),
        # The geometric mean of a pixel's sides.
        pixel_scale=float(np.sqrt(np.prod(proj_plane_pixel_scales(wcs)))) * 3600,
    )


def _celestial_wcs(file: _FileHeader) -> WCS:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wcs = WCS(file.image, naxis=2)
        corner = wcs.wcs_pix2world([[0.0, 0.0]], 0)
    except (WcsError, ValueError) as error:
        raise TileError(f"{file.path} has a bad WCS: {' '.join(str(error).split())}") from error
    if not (wcs.has_celestial and np.isfinite(corner).all()):
        raise TileError(f"{file.path} has no celestial WCS")
    return wcs


def _check_same_grid(one: tuple[_FileHeader, WCS], other: tuple[_FileHeader, WCS]) -> None:
    (a, wcs_a), (b, wcs_b) = one, other
    if a.shape != b.shape:
        raise TileError(
            f"bands differ in shape: {a.path} is {by(a.shape)}, {b.path} {by(b.shape)} pixels"
        )
    corners = np.array([[0.0, 0.0], [a.shape[1] - 1.0, a.shape[0] - 1.0]])
    offset = wcs_b.wcs_world2pix(wcs_a.wcs_pix2world(corners, 0), 0) - corners
    if not np.abs(offset).max() <= GRID_TOLERANCE:
        raise TileError(f"{a.path} and {b.path} are not on one pixel grid")


def _zero_point(file: _FileHeader, zeropoint: float | None) -> float:
    """Return the nJy of one count, from FLUXMAG0, else MAGZERO, else `zeropoint`."""
    for card in ("FLUXMAG0", "MAGZERO"):
        for cards in (file.primary, file.image):
            if card in cards:
                return _from_card(file.path, card, cards[card])
    if zeropoint is None:
        raise TileError(f"{file.path} has no zero point (FLUXMAG0 or MAGZERO)")
    return njy_per_count(zeropoint)


def _from_card(path: str, card: str, value: object) -> float:
    if isinstance(value, int | float) and np.isfinite(value):
        if card == "MAGZERO":
            return njy_per_count(value)
        if value > 0:
            return njy_per_count(0) / value
    raise TileError(f"{path} has an unusable zero point: {card} = {value!r}")
