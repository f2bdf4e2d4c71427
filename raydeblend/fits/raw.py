"""The planes of one box of a band as its files have them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from raydeblend.errors import TileError
from raydeblend.fits.band_psf import psf_in_image
from raydeblend.fits.hdus import open_hdus
from raydeblend.fits.layouts import make_layout
from raydeblend.fits.meaning import Meaning
from raydeblend.fits.noise import SkyNoise, measure_noise
from raydeblend.fits.planes import Planes, find_mask, find_noise, find_planes, find_realization
from raydeblend.fits.tiled import GzippedImage
from raydeblend.psf import BandPsf
from raydeblend.tile import BandFile, BoolArray, Box, TileHeader
from raydeblend.traffic import PIXELS_READ

Array = NDArray[np.generic]

WHOLE_ROWS = 512
STRIPS, STRIP_ROWS = 12, 8
"""What tells the noise of a tile without a plane for it: all rows, or strips of a higher tile."""
MOST_NEGATIVE = 0.05
"""Share of negative pixels from which a variance is none."""


@dataclass(frozen=True)
class Raw:
    """The planes of one box as they are in the files; None where they lack them.

    Attributes
    ----------
    image, mask
        ``(y, x)``.
    noise
        A plane of what `noise_is` says, or what the tile's pixels say.
    bits
        Of the mask's planes by name.
    psf
        That of the image's file for the box; None if there is none, or no place in the box has one.
    """

    image: Array
    mask: Array | None
    noise: Array | SkyNoise
    noise_is: Meaning
    bits: Mapping[str, int]
    psf: BandPsf | None

    def check_negative(self, path: str, usable: BoolArray) -> None:
        """Refuse a variance or weight of which too many pixels are negative.

        Raises
        ------
        TileError
            Naming it.
        """
        noise = np.asarray(self.noise)[usable]
        negative = float(np.mean(noise < 0)) if noise.size else 0.0
        if negative > MOST_NEGATIVE:
            raise TileError(
                f"{path}: its {self.noise_is} is negative in {100 * negative:.0f} % of the pixels"
            )

    def variance(self) -> Array:
        """Return the variance; weights and errors that are not positive become no data."""
        if self.noise_is is Meaning.VARIANCE:
            return np.asarray(self.noise)
        values = np.asarray(self.noise, dtype=np.float64)
        good = values > 0
        if self.noise_is is Meaning.ERROR:
            return np.where(good, values**2, 0)
        return np.divide(1, values, out=np.zeros(values.shape), where=good)


def read_raw(header: TileHeader, file: BandFile, box: Box) -> Raw:
    """Read the planes of a box.

    Raises
    ------
    TileError
        If a file cannot be read, or its planes contradict each other or its layout.
    """
    with ExitStack() as opened:
        hdus = opened.enter_context(open_hdus(file.image))
        planes = _with_files(opened, file, find_planes(file.image, hdus, make_layout(file.layout)))
        psf = planes.psf if file.psf is None else None
        return Raw(
            image=_section(planes.image, box),
            mask=None if planes.mask is None else _section(planes.mask, box),
            noise=_noise_of_tile(planes.image)
            if planes.noise is None
            else _section(planes.noise, box),
            noise_is=planes.noise_is,
            bits=planes.bits or {},
            psf=None if psf is None else psf_in_image(header, file, hdus, psf, box),
        )


def _with_files(opened: ExitStack, file: BandFile, planes: Planes) -> Planes:
    """Return planes with those that lie in files of their own."""
    layout, shape = make_layout(file.layout), planes.image.shape
    mask, bits, noise, noise_is = planes.mask, planes.bits, planes.noise, planes.noise_is
    if file.mask is not None:
        hdus = opened.enter_context(open_hdus(file.mask))
        mask, bits = find_mask(file.mask, hdus, layout, shape)
    if file.noise is not None:
        hdus = opened.enter_context(open_hdus(file.noise))
        noise, noise_is = find_noise(file.noise, hdus, layout, shape)
    return Planes(planes.image, mask, noise, noise_is, planes.psf, bits)


def read_realization(file: BandFile, box: Box) -> NDArray[np.float32] | None:
    """Return an image ``(y, x)`` in nJy of noise alone, drawn as the coadd's; None without one.

    Raises
    ------
    TileError
        If the file cannot be read, or the image has another shape than the coadd.
    """
    with open_hdus(file.image) as hdus:
        found = find_realization(file.image, hdus, make_layout(file.layout))
        return None if found is None else scaled(_section(found, box), file.njy_per_count)


def scaled(values: Array, factor: float) -> NDArray[np.float32]:
    """Return values times a factor; what is too large becomes infinite."""
    if factor == 1 and values.dtype.kind == "f" and values.dtype.itemsize <= np.float32().itemsize:
        return values.astype(np.float32, copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        product = np.multiply(values, factor, dtype=np.float64)
        return np.asarray(product, dtype=np.float32)


def _section(hdu: fits.ImageHDU, box: Box) -> Array:
    """Read a box: of a compressed HDU the tiles that it needs, of another whole rows.

    These take one request, while each row of its own would be one on s3.
    """
    rows, columns = box.slices
    if isinstance(hdu, fits.CompImageHDU | GzippedImage):
        read = part = np.array(hdu.section[rows, columns])
    else:
        read = hdu.section[rows]
        part = np.array(read[:, columns])
    PIXELS_READ.add(read.nbytes)
    return part


def _noise_of_tile(image: fits.ImageHDU) -> SkyNoise:
    """Measure the noise from rows of the whole tile, so that it is the same in every box of it."""
    rows = image.shape[0]
    starts = np.linspace(0, rows - STRIP_ROWS, STRIPS).astype(int)
    whole = rows <= WHOLE_ROWS
    strips = [image.section[:]] if whole else [image.section[y : y + STRIP_ROWS] for y in starts]
    return measure_noise(np.concatenate(strips).astype(np.float64))
