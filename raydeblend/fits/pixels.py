"""Pixels of one box of a tile in nJy, and the writing of a band."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from raydeblend import storage
from raydeblend.errors import NoDataError, TileError
from raydeblend.fits.band_psf import nominal, psf_of_files
from raydeblend.fits.layouts import make_layout
from raydeblend.fits.layouts.record import Mask
from raydeblend.fits.mask import BITS, check_known, named_for, pixels_of, ruled_out
from raydeblend.fits.noise import SkyNoise, is_fill, quiet_noise
from raydeblend.fits.planes import CELL_AXES
from raydeblend.fits.psf_cells import CARDS, JUMPS
from raydeblend.fits.raw import Raw, read_raw, scaled
from raydeblend.flags import Flag
from raydeblend.psf import BandPsf, TilePsf, everywhere
from raydeblend.survey import Survey, nominal_psf
from raydeblend.tile import BandFile, BoolArray, Box, FloatArray, Tile, TileHeader

NOISE_TIMES = 3.0
"""How much larger than its variance says an image's noise may be."""
FEW_PIXELS = 1000
"""Too few to tell a noise from."""


@dataclass(frozen=True)
class _Band:
    """One band of a box in nJy."""

    image: FloatArray
    variance: FloatArray
    unusable: BoolArray
    saturated: BoolArray
    psf: BandPsf
    flags: Flag
    masked: bool
    """Whether the mask rules out every pixel, or there is no file."""
    filled: float
    """Part of the pixels that hold data, whatever the mask rules out."""


def read_tile(
    header: TileHeader, box: Box, survey: Survey, bad_planes: tuple[str, ...] | None = None
) -> Tile:
    """Read the part of `box` that lies on the tile, in every band.

    Pixels of `bad_planes` are unusable, by default those that the layout of each file names.  A
    band that the tile lacks, or whose pixels are all unusable or all equal, comes back as zeros,
    unusable, with Flag.BAND_MISSING.  Inverse variances and errors become variances; where there
    is none the variance is estimated from the tile's pixels (Flag.VARIANCE_ESTIMATED), and empty
    fill is unusable.  A missing PSF is the survey's nominal one, drawn at the tile's pixel scale
    (Flag.PSF_NOMINAL); see `raydeblend.fits.psfs` for a stamp on another scale.

    Raises
    ------
    NoDataError
        If the masks rule out every pixel of every band, and no pixel of any holds data.
    TileError
        If a file cannot be read, a PSF stamp is unusable, planes contradict the pixels or their
        names, or no band has a usable pixel for another reason.
    """
    box = box.clip(header.box)
    if min(box.shape) <= 0:
        raise TileError(f"{header.name}: the box lies outside the tile")
    bands = [
        _read_band(header, name, file, box, survey, bad_planes)
        for name, file in zip(header.bands, header.files, strict=True)
    ]
    unusable = np.stack([band.unusable for band in bands])
    ruled_out_all = all(band.masked for band in bands)
    if ruled_out_all and not any(band.filled for band in bands):
        raise NoDataError(f"{header.name}: no band has usable pixels: the masks rule out all")
    # What holds data comes back although it is masked: the mask may be misread.
    if unusable.all() and not ruled_out_all:
        raise TileError(
            f"{header.name}: no band has usable pixels (all are masked, NaN, constant, or of "
            "zero variance)"
        )
    return Tile(
        header=header,
        box=box,
        image=np.stack([band.image for band in bands]),
        variance=np.stack([band.variance for band in bands]),
        unusable=unusable,
        saturated=np.any([band.saturated for band in bands], axis=0),
        psf=TilePsf(tuple(band.psf for band in bands)),
        flags=int(np.bitwise_or.reduce([int(band.flags) for band in bands])),
        filled=tuple(band.filled for band in bands),
    )


def write_band(
    path: str,
    image: NDArray[np.floating],
    mask: NDArray[np.integer] | None,
    variance: NDArray[np.floating] | None,
    wcs_header: fits.Header,
    psf: NDArray[np.floating] | None,
    flux_mag0: float,
    mask_planes: Mapping[str, int],
    psf_jumps: bool = True,
) -> None:
    """Write one band of a tile in the format that `find_tiles` and `read_tile` read.

    Parameters
    ----------
    image, variance
        ``(y, x)`` in counts and counts².
    mask
        ``(y, x)`` bits; `mask_planes` names them.
    psf
        Odd-sized stamp; ``(cells y, cells x, py, px)`` for equal cells from the first pixel on.
    flux_mag0
        Counts of a source of AB magnitude 0.
    psf_jumps
        Whether the PSF jumps at the edges of its cells, or stamps are samples at their centers.
    """
    primary = fits.PrimaryHDU()
    primary.header["FLUXMAG0"] = (flux_mag0, "counts of AB magnitude 0")
    hdus = [primary, fits.ImageHDU(np.asarray(image, np.float32), wcs_header, name="IMAGE")]
    if mask is not None:
        hdus.append(fits.ImageHDU(np.asarray(mask, np.int32), wcs_header, name="MASK"))
        hdus[-1].header.update({f"HIERARCH {BITS}{name}": bit for name, bit in mask_planes.items()})
    if variance is not None:
        variance = np.asarray(variance, np.float32)
        hdus.append(fits.ImageHDU(variance, wcs_header, name="VARIANCE"))
    if psf is not None:
        hdus.append(_psf_hdu(np.asarray(psf, np.float32), image.shape, psf_jumps))
    buffer = io.BytesIO()
    fits.HDUList(hdus).writeto(buffer)
    storage.write_bytes(path, buffer.getvalue())


def _psf_hdu(psf: NDArray[np.float32], shape: tuple[int, ...], jumps: bool) -> fits.ImageHDU:
    hdu = fits.ImageHDU(psf, name="PSF")
    if psf.ndim == CELL_AXES:
        sides = [-(-pixels // cells) for pixels, cells in zip(shape, psf.shape[:2], strict=True)]
        hdu.header.update(dict(zip((*CARDS, JUMPS), (0, 0, *sides, jumps), strict=True)))
    return hdu


def _missing(
    header: TileHeader, band: str, box: Box, survey: Survey, masked: bool, filled: float = 0.0
) -> _Band:
    return _Band(
        image=np.zeros(box.shape, dtype=np.float32),
        variance=np.ones(box.shape, dtype=np.float32),
        unusable=np.ones(box.shape, dtype=bool),
        saturated=np.zeros(box.shape, dtype=bool),
        psf=everywhere(nominal_psf(survey, band, pixel_scale=header.pixel_scale)),
        flags=Flag.BAND_MISSING,
        masked=masked,
        filled=filled,
    )


def _read_band(
    header: TileHeader,
    name: str,
    file: BandFile | None,
    box: Box,
    survey: Survey,
    bad_planes: tuple[str, ...] | None,
) -> _Band:
    """Read one band of a box; it is missing too if nothing in it can be measured."""
    if file is None:
        return _missing(header, name, box, survey, masked=True)
    rule, raw = make_layout(file.layout).mask, read_raw(header, file, box)
    psf = _psf(header, file, raw, box, survey)
    flags = Flag(int(np.bitwise_and.reduce(psf.flags)))
    image = scaled(raw.image, file.njy_per_count)
    bad = named_for(rule.bad if bad_planes is None else bad_planes, name)
    masked = _masked(file.image, raw, bad, rule, name)
    empty = ~np.isfinite(image)
    if isinstance(raw.noise, SkyNoise):
        empty |= is_fill(np.asarray(raw.image, np.float64), raw.noise)
        variance = scaled(np.full(box.shape, raw.noise.variance), file.njy_per_count**2)
        flags |= Flag.VARIANCE_ESTIMATED
    else:
        raw.check_negative(file.image, ~(empty | masked))
        variance = scaled(raw.variance(), file.njy_per_count**2)
    empty |= ~(np.isfinite(variance) & (variance > 0))
    unusable = empty | masked
    filled = _filled(image[~(empty | _planes(raw, named_for(rule.no_data, name)))], image.size)
    if not _filled(image[~unusable], image.size):
        return _missing(header, name, box, survey, bool(masked.all()), filled)
    _check_noise(file.image, raw, np.where(unusable, np.nan, image), variance[~unusable])
    image[unusable] = 0
    variance[unusable] = np.median(variance[~unusable])
    saturated = _planes(raw, named_for(rule.saturated, name))
    return _Band(image, variance, unusable, saturated, psf, flags, False, filled)


def _filled(values: FloatArray, n: int) -> float:
    """Return the part that some values are of `n` pixels; 0 where all are the same."""
    return len(values) / n if len(values) and values.min() < values.max() else 0.0


def _check_noise(path: str, raw: Raw, image: FloatArray, variance: FloatArray) -> None:
    """Refuse a noise that the pixels contradict: they would be taken for sources."""
    if isinstance(raw.noise, SkyNoise) or len(variance) < FEW_PIXELS:
        return
    seen, said = quiet_noise(image[::4]), float(np.sqrt(np.median(variance)))
    if seen > NOISE_TIMES * said:
        raise TileError(
            f"{path}: the noise of its pixels is {seen / said:.1f} times what its {raw.noise_is} "
            "says; is that plane of another meaning or unit?"
        )


def _masked(path: str, raw: Raw, bad_planes: Sequence[str], mask: Mask, band: str) -> BoolArray:
    """Return the unusable pixels; a pixel whose mask is not known is one."""
    if raw.mask is None:
        return np.zeros(raw.image.shape, dtype=bool)
    check_known(path, raw.bits, bad_planes, mask, band)
    return ruled_out(path, raw.mask, raw.bits, bad_planes)


def _planes(raw: Raw, planes: Sequence[str]) -> BoolArray:
    if raw.mask is None:
        return np.zeros(raw.image.shape, dtype=bool)
    return pixels_of(raw.mask, raw.bits, planes)


def _psf(header: TileHeader, file: BandFile, raw: Raw, box: Box, survey: Survey) -> BandPsf:
    if file.psf is not None:
        return psf_of_files(header, file, box) or nominal(header, file.band, survey)
    return raw.psf or nominal(header, file.band, survey)
