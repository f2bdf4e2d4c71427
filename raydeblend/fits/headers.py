"""Tiles planned from headers alone: shape, WCS and zero point of every band."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from raydeblend import access, storage
from raydeblend.config import IMAGE_PATTERN, PSF_PATTERN
from raydeblend.errors import TileError
from raydeblend.fits import inputs, sky
from raydeblend.fits.hdus import by, open_hdus
from raydeblend.fits.layouts import AUTO, NATIVE, Layout, find_layout, make_layout
from raydeblend.fits.layouts.match import match_layout
from raydeblend.fits.layouts.recognize import recognize
from raydeblend.fits.manifest import read_manifest
from raydeblend.fits.planes import CELL_AXES, find_planes
from raydeblend.fits.psf_cells import cell_grid
from raydeblend.fits.tiled import image_header
from raydeblend.fits.zero_points import check_njy, read_zero_point
from raydeblend.tile import BandFile, TileHeader

# Opening a file on s3 is waiting, not work.
THREADS = 16


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
    layout: str = AUTO,
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
        AB magnitude of one count, for files that do not say it.
    layout
        See `choose_layout`; one that names files itself replaces the patterns.
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
    access.check_readable(root)
    if manifest:
        found = read_manifest(root, manifest, bands)
    else:
        files = storage.list_stamps(root)
        chosen = _choose(root, bands, image_pattern, psf_pattern, layout, files)
        if chosen.files:
            found = match_layout(root, bands, chosen, files)
        else:
            found = inputs.match_patterns(root, bands, image_pattern, psf_pattern, files)
    inputs.check_names(found)
    tiles = [TileFiles(name, found[name]) for name in sorted(found)]
    planned = list((read or read_headers)(tiles, bands, zeropoint))
    headers = [tile for tile in planned if isinstance(tile, TileHeader)]
    return headers, [tile for tile in planned if isinstance(tile, TileFailure)]


def choose_layout(
    root: str,
    bands: tuple[str, ...],
    layout: str = AUTO,
    image_pattern: str = IMAGE_PATTERN,
    psf_pattern: str = PSF_PATTERN,
    manifest: str | None = None,
) -> Layout:
    """Return the layout of the files below `root`; see `find_tiles` for the parameters.

    ``auto`` is native with a manifest or with patterns of one's own, and else what the files show.

    Raises
    ------
    ConfigError
        If there is no such layout, its file cannot be used, or the files show none or several.
    """
    if layout != AUTO:
        return find_layout(layout)
    if manifest:
        return make_layout(NATIVE)
    access.check_readable(root)
    files = storage.list_stamps(root)
    return _choose(root, bands, image_pattern, psf_pattern, layout, files)


def _choose(
    root: str,
    bands: tuple[str, ...],
    image_pattern: str,
    psf_pattern: str,
    layout: str,
    files: Mapping[str, str],
) -> Layout:
    if layout != AUTO:
        return find_layout(layout)
    if (image_pattern, psf_pattern) != (IMAGE_PATTERN, PSF_PATTERN):
        return make_layout(NATIVE)
    return recognize(root, bands, image_pattern, files)


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


def _tile_header(tile: TileFiles, bands: tuple[str, ...], zeropoint: float | None) -> TileHeader:
    """Bring the bands of one tile together; they must share one pixel grid."""
    found: dict[str, BandFile] = {}
    first: tuple[str, inputs.Grid] | None = None
    for band, source in tile.files.items():
        if source.grid:
            _check_given(source.image, source.grid, first and first[1])
        grid = source.grid or _read_grid(source, zeropoint)
        first = first or (source.image, grid)
        sky.check_same_grid(first, (source.image, grid))
        stamp = source.stamp if source.stamp or source.grid else _stamp(source)
        found[band] = BandFile(
            band, source.image, source.psf, grid.njy_per_count, stamp, source.mask, source.noise,
            source.layout,
        )  # fmt: skip
    if first is None:
        raise TileError(f"{tile.name} has no file")
    return TileHeader(
        name=tile.name,
        bands=bands,
        files=tuple(found.get(band) for band in bands),
        shape=first[1].shape,
        wcs=first[1].wcs,
        pixel_scale=sky.pixel_scale(*first),
    )


def _stamp(source: inputs.Source) -> str:
    """Ask for what changes when the files do; empty if one cannot be reached."""
    try:
        return " ".join(map(storage.stamp, source.paths))
    except storage.READ_ERRORS:
        return ""


def _read_grid(source: inputs.Source, zeropoint: float | None) -> inputs.Grid:
    path, layout = source.image, make_layout(source.layout)
    with open_hdus(path) as hdus:
        planes = find_planes(path, hdus, layout)
        shape, cards = planes.image.shape, (hdus[0].header, image_header(planes.image))
        if planes.psf is not None and len(planes.psf.shape) == CELL_AXES:
            cell_grid(path, hdus, planes.psf, shape)
    njy = read_zero_point(path, cards, zeropoint, layout.flux)
    return inputs.Grid(shape, sky.celestial_cards(path, cards[1], shape), njy)


def _check_given(path: str, grid: inputs.Grid, first: inputs.Grid | None) -> None:
    """Check what a manifest says in place of a header."""
    check_njy(path, grid.njy_per_count)
    if min(grid.shape) < 1:
        raise TileError(f"{path} has an unusable shape in the manifest: {by(grid.shape)}")
    if first is None or first.wcs != grid.wcs:
        sky.check_text(path, grid.wcs)
