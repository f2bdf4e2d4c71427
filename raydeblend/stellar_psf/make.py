"""PSFs for all tiles of an input, written with a manifest that names them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from raydeblend import access, storage
from raydeblend.config import CatalogConfig
from raydeblend.detect.background import without_background
from raydeblend.errors import ConfigError, TileError
from raydeblend.fits import find_tiles, read_tile
from raydeblend.fits.manifest import to_manifest, write_manifest
from raydeblend.fits.psf_cells import CARDS, JUMPS
from raydeblend.stellar_psf.config import StellarPsfConfig
from raydeblend.stellar_psf.model import StellarPsf, fit_psf_to_stars
from raydeblend.stellar_psf.stars import choose_stars, find_candidates
from raydeblend.survey import get_survey
from raydeblend.tile import BandFile, TileHeader

MANIFEST = "manifest.parquet"


@dataclass(frozen=True)
class MadePsfs:
    """What was made: the PSF of each tile and band, why others have none, and the manifest."""

    psfs: Mapping[tuple[str, str], StellarPsf]
    failures: Mapping[tuple[str, str], str]
    manifest: str


def make_psfs(
    source: str,
    out: str,
    catalog: CatalogConfig,
    config: StellarPsfConfig = StellarPsfConfig(),  # noqa: B008
) -> MadePsfs:
    """Fit the PSF of every tile and band to its stars.

    Parameters
    ----------
    out
        Directory or ``s3://`` prefix for ``{tile}_{band}_psf.fits`` and the manifest, with which
        a catalog is then made.
    catalog
        How tiles are found and read: bands, survey, patterns, layout, manifest and background, with
        the survey's name (`pipeline.inputs.with_layout`).

    Raises
    ------
    ConfigError
        If the input or the output cannot be used, or no tile has enough stars.
    """
    access.check_writable(storage.absolute(out))
    headers, _ = find_tiles(
        source, catalog.bands, catalog.image_pattern, catalog.psf_pattern, catalog.manifest,
        catalog.zeropoint, catalog.layout,
    )  # fmt: skip
    psfs: dict[tuple[str, str], StellarPsf] = {}
    failures: dict[tuple[str, str], str] = {}
    for header, file in _bands_of(headers):
        try:
            psfs[header.name, file.band] = fit_band(header, file, catalog, config)
        except (TileError, *storage.READ_ERRORS) as error:
            failures[header.name, file.band] = storage.explain(error)
    if not psfs:
        raise ConfigError(f"no PSF could be made: {next(iter(failures.values()), 'no tile')}")
    paths = {key: _write(out, *key, psf, config) for key, psf in psfs.items()}
    manifest = storage.join(storage.absolute(out), MANIFEST)
    write_manifest(manifest, to_manifest([_with_psfs(header, paths) for header in headers]))
    return MadePsfs(psfs, failures, manifest)


def _bands_of(headers: Sequence[TileHeader]) -> Iterator[tuple[TileHeader, BandFile]]:
    """Yield each file, with the header of a tile of that band alone."""
    for header in headers:
        for file in header.files:
            if file is not None:
                yield replace(header, bands=(file.band,), files=(file,)), file


def fit_band(
    header: TileHeader, file: BandFile, catalog: CatalogConfig, config: StellarPsfConfig
) -> StellarPsf:
    """Fit the PSF of a tile of one band.

    Raises
    ------
    TileError
        If its pixels cannot be used, or it has too few stars.
    """
    # Whatever PSF there is, only its width is used, to find sources.
    tile = read_tile(header, header.box, get_survey(catalog.survey), catalog.bad_planes)
    clean = without_background(tile, catalog.background)
    stars = choose_stars(find_candidates(clean, config), header.shape, config)
    if len(stars) < config.least_stars:
        raise TileError(
            f"{header.name} in {file.band} has {len(stars)} usable stars; a PSF needs "
            f"{config.least_stars}"
        )
    return fit_psf_to_stars(stars, header.shape, config)


def cell_centers(shape: tuple[int, int], cells: int) -> tuple[tuple[int, int], NDArray[np.float64]]:
    """Return the pixels (y, x) of a cell, and the centers ``(cells², 2)`` (x, y), row after row."""
    height, width = (-(-side // cells) for side in shape)
    y, x = np.indices((cells, cells)).reshape(2, -1)
    places = np.column_stack([(x + 0.5) * width - 0.5, (y + 0.5) * height - 0.5])
    return (height, width), places


def _write(out: str, tile: str, band: str, psf: StellarPsf, config: StellarPsfConfig) -> str:
    """Write the PSF at the centers of cells; it does not jump between them."""
    cell, places = cell_centers(psf.terms.shape, config.cells)
    stamps = psf.at(places).reshape(config.cells, config.cells, config.side, config.side)
    hdu = fits.ImageHDU(stamps, name="PSF")
    hdu.header.update(dict(zip(CARDS, (0, 0, *cell), strict=True)))
    hdu.header[JUMPS] = (False, "whether the PSF jumps at the edges of cells")
    hdu.header["NSTARS"] = len(psf.stars)
    path = storage.join(storage.absolute(out), f"{tile}_{band}_psf.fits")
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    storage.write_bytes(path, buffer.getvalue())
    return path


def _with_psfs(header: TileHeader, paths: Mapping[tuple[str, str], str]) -> TileHeader:
    files = (
        file and replace(file, psf=paths.get((header.name, file.band), file.psf))
        for file in header.files
    )
    return replace(header, files=tuple(files))
