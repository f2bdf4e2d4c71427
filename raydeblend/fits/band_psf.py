"""The PSF of one band of a tile, by place, from wherever its layout keeps it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from raydeblend.errors import TileError
from raydeblend.fits.hdus import open_hdus
from raydeblend.fits.layouts import Layout, make_layout
from raydeblend.fits.layouts.match import position
from raydeblend.fits.planes import CELL_AXES, find_stamp
from raydeblend.fits.psf_cells import SAMPLED, read_cells
from raydeblend.fits.psfs import finish_stamp, read_stamp
from raydeblend.flags import Flag
from raydeblend.psf import BandPsf, Nearest, by_position, everywhere
from raydeblend.survey import Survey, nominal_psf
from raydeblend.tile import BandFile, Box, FloatArray, TileHeader


def nominal(header: TileHeader, band: str, survey: Survey) -> BandPsf:
    """Return the survey's own PSF, for a band or a place without one."""
    return everywhere(
        nominal_psf(survey, band, pixel_scale=header.pixel_scale), int(Flag.PSF_NOMINAL)
    )


def psf_in_image(
    header: TileHeader, file: BandFile, hdus: fits.HDUList, psf: fits.ImageHDU, box: Box
) -> BandPsf | None:
    """Return the PSF that lies in the file of the image; None if the box has none.

    Raises
    ------
    TileError
        If it cannot be used.
    """
    return _psf_in(header, file.image, hdus, psf, box)


def _psf_in(
    header: TileHeader, path: str, hdus: fits.HDUList, psf: fits.ImageHDU, box: Box
) -> BandPsf | None:
    if len(psf.shape) == CELL_AXES:
        return read_cells(path, hdus, psf, header.shape, box)
    stamp, flags = finish_stamp(read_stamp(path, psf, header.pixel_scale), path)
    return everywhere(stamp, int(flags))


def psf_of_files(header: TileHeader, file: BandFile, box: Box) -> BandPsf | None:
    """Return the PSF in files of its own: of the whole tile, by cell, or each of a position.

    Only the stamps that the box needs are read, and those that tell the mean height.

    Raises
    ------
    TileError
        If one cannot be used, or lies nowhere.
    """
    paths, layout = (file.psf or "").split("\n"), make_layout(file.layout)
    if len(paths) == 1:
        with open_hdus(paths[0]) as hdus:
            psf = find_stamp(paths[0], hdus, layout)
            return _psf_in(header, paths[0], hdus, psf, box)
    xy = _positions(header, paths, layout)
    _, kept = Nearest(xy).within(box)
    read = [_stamp(header, paths[i], layout) for i in kept]
    stamps, flags = [stamp for stamp, _ in read], [flag for _, flag in read]
    return by_position(stamps, xy[kept], flags, _height(header, paths, layout))


def _stamp(header: TileHeader, path: str, layout: Layout) -> tuple[FloatArray, int]:
    with open_hdus(path) as hdus:
        hdu = find_stamp(path, hdus, layout)
        if len(hdu.shape) == CELL_AXES:
            raise TileError(f"{path}: one of several PSFs by position cannot be one by cell")
        stamp, flag = finish_stamp(read_stamp(path, hdu, header.pixel_scale), path)
    return stamp, int(flag)


def _height(header: TileHeader, paths: Sequence[str], layout: Layout) -> float:
    """Return the mean of the highest pixels of some of the stamps, whatever the box."""
    some = np.unique(np.linspace(0, len(paths) - 1, min(len(paths), SAMPLED**2)).astype(int))
    return float(np.mean([_stamp(header, paths[i], layout)[0].max() for i in some]))


def _positions(header: TileHeader, paths: Sequence[str], layout: Layout) -> np.ndarray:
    """Return ``(n, 2)`` (x, y) in pixels of the tile."""
    sky = []
    for path in paths:
        place = position(layout, path)
        if place is None:
            raise TileError(f"{path} does not say where in {header.name} its PSF holds")
        sky.append(place)
    wcs = WCS(fits.Header.fromstring(header.wcs))
    return np.asarray(wcs.all_world2pix(np.array(sky), 0), dtype=np.float64)
