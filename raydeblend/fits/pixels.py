"""Pixels of one box of a tile in nJy, and the writing of a band."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from raydeblend import storage
from raydeblend.config import BAD_PLANES
from raydeblend.errors import NoDataError, TileError
from raydeblend.fits.hdus import open_hdus
from raydeblend.fits.noise import SkyNoise, is_fill, measure_noise, quiet_noise
from raydeblend.fits.planes import BITS, Meaning, find_planes, find_stamp
from raydeblend.fits.psfs import Stamp, finish_stamp, read_stamp
from raydeblend.flags import Flag
from raydeblend.psf import TilePsf, everywhere
from raydeblend.survey import Survey, nominal_psf
from raydeblend.tile import BandFile, BoolArray, Box, FloatArray, Tile, TileHeader

STANDARD_PLANES = (
    *BAD_PLANES, "INTRP", "EDGE", "DETECTED", "DETECTED_NEGATIVE", "BRIGHT_OBJECT", "CROSSTALK",
    "NOT_DEBLENDED", "CLIPPED", "REJECTED", "SENSOR_EDGE", "INEXACT_PSF", "STREAK", "VIGNETTED",
)  # fmt: skip
"""What the HSC and LSST pipelines call the planes of a mask."""

WHOLE_ROWS = 512
STRIPS, STRIP_ROWS = 12, 8
"""What tells the noise of a tile without a plane for it: all rows, or strips of a higher tile."""
MOST_NEGATIVE = 0.05
"""Share of negative pixels from which a variance is none."""
NOISE_TIMES = 3.0
"""How much larger than its variance says an image's noise may be."""
FEW_PIXELS = 1000
"""Too few to tell a noise from."""


@dataclass(frozen=True)
class _Raw:
    """The planes of one box as they are in the file; None where it lacks them.

    `noise` is a plane of what `noise_is` says, or what the tile's pixels say.
    """

    image: NDArray[np.generic]
    mask: NDArray[np.generic] | None
    noise: NDArray[np.generic] | SkyNoise
    noise_is: Meaning
    psf: Stamp | None
    bits: Mapping[str, int]


@dataclass(frozen=True)
class _Band:
    """One band of a box in nJy."""

    image: FloatArray
    variance: FloatArray
    unusable: BoolArray
    saturated: BoolArray
    psf: FloatArray
    flags: Flag
    masked: bool = False
    """Whether the mask rules out every pixel, or there is no file."""


def read_tile(
    header: TileHeader, box: Box, survey: Survey, bad_planes: tuple[str, ...] = BAD_PLANES
) -> Tile:
    """Read the part of `box` that lies on the tile, in every band.

    A band that the tile lacks, or whose pixels are all unusable or all equal, comes back as
    zeros, unusable, with Flag.BAND_MISSING.  Inverse variances and errors become variances; where
    there is none the variance is estimated from the tile's pixels (Flag.VARIANCE_ESTIMATED), and
    empty fill is unusable.  A missing PSF is the survey's nominal one, drawn at the tile's pixel
    scale (Flag.PSF_NOMINAL); see `raydeblend.fits.psfs` for a stamp on another scale.

    Raises
    ------
    NoDataError
        If the masks rule out every pixel of every band.
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
    if all(band.masked for band in bands):
        raise NoDataError(f"{header.name}: no band has usable pixels: the masks rule out all")
    if unusable.all():
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
        psf=TilePsf(tuple(everywhere(band.psf) for band in bands)),
        flags=int(np.bitwise_or.reduce([int(band.flags) for band in bands])),
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
) -> None:
    """Write one band of a tile in the format that `find_tiles` and `read_tile` read.

    Parameters
    ----------
    image, variance
        ``(y, x)`` in counts and counts².
    mask
        ``(y, x)`` bits; `mask_planes` names them.
    psf
        Odd-sized stamp.
    flux_mag0
        Counts of a source of AB magnitude 0.
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
        hdus.append(fits.ImageHDU(np.asarray(psf, np.float32), name="PSF"))
    buffer = io.BytesIO()
    fits.HDUList(hdus).writeto(buffer)
    storage.write_bytes(path, buffer.getvalue())


def _missing(header: TileHeader, band: str, box: Box, survey: Survey, masked: bool) -> _Band:
    return _Band(
        image=np.zeros(box.shape, dtype=np.float32),
        variance=np.ones(box.shape, dtype=np.float32),
        unusable=np.ones(box.shape, dtype=bool),
        saturated=np.zeros(box.shape, dtype=bool),
        psf=nominal_psf(survey, band, pixel_scale=header.pixel_scale),
        flags=Flag.BAND_MISSING,
        masked=masked,
    )


def _read_band(
    header: TileHeader,
    name: str,
    file: BandFile | None,
    box: Box,
    survey: Survey,
    bad_planes: tuple[str, ...],
) -> _Band:
    """Read one band of a box; it is missing too if nothing in it can be measured."""
    if file is None:
        return _missing(header, name, box, survey, masked=True)
    raw = _read_raw(file, box, header.pixel_scale)
    psf, flags = _psf(header, file, raw, survey)
    image = _scaled(raw.image, file.njy_per_count)
    masked = _masked(file.image, raw, bad_planes)
    unusable = ~np.isfinite(image) | masked
    if isinstance(raw.noise, SkyNoise):
        unusable |= is_fill(np.asarray(raw.image, np.float64), raw.noise)
        variance = _scaled(np.full(box.shape, raw.noise.variance), file.njy_per_count**2)
        flags |= Flag.VARIANCE_ESTIMATED
    else:
        _check_negative(file.image, raw, ~unusable)
        variance = _scaled(_as_variance(raw.noise, raw.noise_is), file.njy_per_count**2)
    unusable |= ~(np.isfinite(variance) & (variance > 0))
    usable = image[~unusable]
    if usable.size == 0 or usable.min() == usable.max():
        return _missing(header, name, box, survey, bool(masked.all()))
    _check_noise(file.image, raw, np.where(unusable, np.nan, image), variance[~unusable])
    image[unusable] = 0
    variance[unusable] = np.median(variance[~unusable])
    return _Band(image, variance, unusable, _plane(raw, ("SAT",)), psf, flags)


def _read_raw(file: BandFile, box: Box, pixel_scale: float) -> _Raw:
    with open_hdus(file.image) as hdus:
        planes = find_planes(file.image, hdus)
        noise = None if planes.noise is None else _section(planes.noise, box)
        return _Raw(
            image=_section(planes.image, box),
            mask=None if planes.mask is None else _section(planes.mask, box),
            noise=_noise_of_tile(planes.image) if noise is None else noise,
            noise_is=planes.noise_is,
            psf=planes.psf and read_stamp(file.image, planes.psf, pixel_scale),
            bits=planes.bits or {},
        )


def _section(hdu: fits.ImageHDU, box: Box) -> NDArray[np.generic]:
    """Read a box; whole rows in one request, since each row of its own would be one on s3."""
    rows, columns = box.slices
    return np.array(hdu.section[rows][:, columns])


def _noise_of_tile(image: fits.ImageHDU) -> SkyNoise:
    """Measure the noise from rows of the whole tile, so that it is the same in every box of it."""
    rows = image.shape[0]
    starts = np.linspace(0, rows - STRIP_ROWS, STRIPS).astype(int)
    whole = rows <= WHOLE_ROWS
    strips = [image.section[:]] if whole else [image.section[y : y + STRIP_ROWS] for y in starts]
    return measure_noise(np.concatenate(strips).astype(np.float64))


def _scaled(values: NDArray[np.generic], factor: float) -> FloatArray:
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.multiply(values, factor, dtype=np.float64)
        return np.asarray(scaled, dtype=np.float32)


def _as_variance(noise: NDArray[np.generic], meaning: Meaning) -> NDArray[np.float64]:
    """Return the variance; weights and errors that are not positive become no data."""
    values = np.asarray(noise, dtype=np.float64)
    if meaning is Meaning.VARIANCE:
        return values
    good = values > 0
    if meaning is Meaning.ERROR:
        return np.where(good, values**2, 0)
    return np.divide(1, values, out=np.zeros(values.shape), where=good)


def _check_negative(path: str, raw: _Raw, usable: BoolArray) -> None:
    noise = np.asarray(raw.noise)[usable]
    negative = float(np.mean(noise < 0)) if noise.size else 0.0
    if negative > MOST_NEGATIVE:
        raise TileError(
            f"{path}: its {raw.noise_is} is negative in {100 * negative:.0f} % of the pixels"
        )


def _check_noise(path: str, raw: _Raw, image: FloatArray, variance: FloatArray) -> None:
    """Refuse a noise that the pixels contradict: they would be taken for sources."""
    if isinstance(raw.noise, SkyNoise) or len(variance) < FEW_PIXELS:
        return
    seen, said = quiet_noise(image[::4]), float(np.sqrt(np.median(variance)))
    if seen > NOISE_TIMES * said:
        raise TileError(
            f"{path}: the noise of its pixels is {seen / said:.1f} times what its {raw.noise_is} "
            "says; is that plane of another meaning or unit?"
        )


def _masked(path: str, raw: _Raw, bad_planes: tuple[str, ...]) -> BoolArray:
    """Return the unusable pixels; a pixel whose mask is not known is one."""
    if raw.mask is None:
        return np.zeros(raw.image.shape, dtype=bool)
    if not set(raw.bits) & {*bad_planes, *STANDARD_PLANES}:
        raise TileError(
            f"{path}: the mask has the planes {', '.join(sorted(raw.bits))}; none of them is one "
            f"of {', '.join(bad_planes)}"
        )
    if raw.mask.dtype.kind in "iu":
        return _plane(raw, bad_planes)
    unknown = ~np.isfinite(raw.mask)
    if (raw.mask[~unknown] != np.floor(raw.mask[~unknown])).any():
        raise TileError(f"{path}: the mask holds fractions, which are no bits")
    return np.asarray(_plane(raw, bad_planes) | unknown)


def _plane(raw: _Raw, names: tuple[str, ...]) -> BoolArray:
    if raw.mask is None:
        return np.zeros(raw.image.shape, dtype=bool)
    bits = sum(1 << raw.bits[name] for name in {*names} & {*raw.bits})
    mask = raw.mask if raw.mask.dtype.kind in "iu" else np.nan_to_num(raw.mask, posinf=0, neginf=0)
    return np.asarray((mask.astype(np.int64).view(np.uint64) & np.uint64(bits)) != 0)


def _psf(header: TileHeader, file: BandFile, raw: _Raw, survey: Survey) -> tuple[FloatArray, Flag]:
    if file.psf is not None:
        with open_hdus(file.psf) as hdus:
            stamp = read_stamp(file.psf, find_stamp(file.psf, hdus), header.pixel_scale)
        return finish_stamp(stamp, file.psf)
    if raw.psf is not None:
        return finish_stamp(raw.psf, file.image)
    return nominal_psf(survey, file.band, pixel_scale=header.pixel_scale), Flag.PSF_NOMINAL
