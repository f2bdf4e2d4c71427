"""Pixels of one box of a tile in nJy, and the writing of a band."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from raydeblend import storage
from raydeblend.errors import NoDataError, TileError
from raydeblend.fits.hdus import PSF, by, find_planes, open_hdus
from raydeblend.flags import Flag
from raydeblend.survey import Survey, nominal_psf
from raydeblend.tile import BandFile, BoolArray, Box, FloatArray, Tile, TileHeader

BAD_PLANES = ("BAD", "SAT", "CR", "NO_DATA", "SUSPECT", "UNMASKEDNAN")

CLIP_SIGMA, CLIP_ROUNDS = 3.0, 10
MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class _Raw:
    """The planes of one box as they are in the file; None where it lacks them."""

    image: NDArray[np.generic]
    mask: NDArray[np.generic] | None
    variance: NDArray[np.generic] | None
    psf: NDArray[np.generic] | None
    bits: dict[str, int]


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
    zeros, unusable, with Flag.BAND_MISSING.  A missing variance plane is estimated from the
    box's pixels (Flag.VARIANCE_ESTIMATED); a missing PSF is the survey's nominal one, drawn at
    the tile's pixel scale (Flag.PSF_NOMINAL).

    Raises
    ------
    NoDataError
        If the masks rule out every pixel of every band.
    TileError
        If a file cannot be read, a PSF stamp is unusable, or no band has a usable pixel for
        another reason.
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
        psf=tuple(band.psf for band in bands),
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
        hdus[-1].header.update({f"HIERARCH MP_{name}": bit for name, bit in mask_planes.items()})
    if variance is not None:
        variance = np.asarray(variance, np.float32)
        hdus.append(fits.ImageHDU(variance, wcs_header, name="VARIANCE"))
    if psf is not None:
        hdus.append(fits.ImageHDU(np.asarray(psf, np.float32), name=PSF))
    buffer = io.BytesIO()
    fits.HDUList(hdus).writeto(buffer)
    storage.write_bytes(path, buffer.getvalue())


def estimate_variance(pixels: FloatArray) -> float:
    """Return the noise variance of mostly empty sky: MAD², clipped at 3 sigma until it settles.

    It is 0 where there are no pixels.
    """
    if len(pixels) == 0:
        return 0.0
    for _ in range(CLIP_ROUNDS):
        centre = np.median(pixels)
        sigma = MAD_TO_SIGMA * np.median(np.abs(pixels - centre))
        kept = pixels[np.abs(pixels - centre) <= CLIP_SIGMA * sigma]
        if len(kept) == len(pixels):
            break
        pixels = kept
    return float(sigma**2)


def normalise_psf(stamp: NDArray[np.generic], where: str) -> FloatArray:
    """Return the stamp with sum 1.

    Raises
    ------
    TileError
        If a side is even, a pixel is not finite, or the sum is not positive.
    """
    stamp = np.asarray(stamp, dtype=np.float64)
    if stamp.shape[0] % 2 == 0 or stamp.shape[1] % 2 == 0:
        raise TileError(f"{where}: the PSF stamp has {by(stamp.shape)} pixels, not odd sides")
    if not np.isfinite(stamp).all():
        raise TileError(f"{where}: the PSF stamp holds NaN or infinite pixels")
    # Relative, so that rounding does not make a sum of zero look positive.
    if stamp.sum() <= 1e-6 * np.abs(stamp).sum():
        raise TileError(f"{where}: the PSF stamp sums to {stamp.sum():.3g}, not to 1")
    return np.asarray(stamp / stamp.sum(), dtype=np.float32)


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
    raw = _read_raw(file, box)
    psf, flags = _psf(header, file, raw, survey)
    image = _scaled(raw.image, file.njy_per_count)
    masked = _masked(raw, bad_planes)
    unusable = ~np.isfinite(image) | masked
    if raw.variance is None:
        variance = np.full_like(image, estimate_variance(image[~unusable]))
        flags |= Flag.VARIANCE_ESTIMATED
    else:
        variance = _scaled(raw.variance, file.njy_per_count**2)
    unusable |= ~(np.isfinite(variance) & (variance > 0))
    usable = image[~unusable]
    if usable.size == 0 or usable.min() == usable.max():
        return _missing(header, name, box, survey, bool(masked.all()))
    image[unusable] = 0
    variance[unusable] = np.median(variance[~unusable])
    return _Band(image, variance, unusable, _plane(raw, ("SAT",)), psf, flags)


def _read_raw(file: BandFile, box: Box) -> _Raw:
    with open_hdus(file.image) as hdus:
        planes = find_planes(file.image, hdus)
        mask = planes.get("MASK")
        cards = {} if mask is None else mask.header
        return _Raw(
            image=_section(planes["IMAGE"], box),
            mask=None if mask is None else _section(mask, box),
            variance=_section(planes["VARIANCE"], box) if "VARIANCE" in planes else None,
            psf=np.array(planes[PSF].data) if PSF in planes else None,
            bits={name[3:]: int(cards[name]) for name in cards if name.startswith("MP_")},
        )


def _section(hdu: fits.ImageHDU, box: Box) -> NDArray[np.generic]:
    """Read a box; whole rows in one request, since each row of its own would be one on s3."""
    rows, columns = box.slices
    return np.array(hdu.section[rows][:, columns])


def _scaled(values: NDArray[np.generic], factor: float) -> FloatArray:
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.multiply(values, factor, dtype=np.float64)
        return np.asarray(scaled, dtype=np.float32)


def _masked(raw: _Raw, bad_planes: tuple[str, ...]) -> BoolArray:
    """Unusable pixels; in a mask whose planes have no names every non-zero pixel."""
    if raw.mask is None or raw.bits:
        return _plane(raw, bad_planes)
    return np.asarray(raw.mask != 0)


def _plane(raw: _Raw, names: tuple[str, ...]) -> BoolArray:
    if raw.mask is None:
        return np.zeros(raw.image.shape, dtype=bool)
    bits = sum(1 << raw.bits[name] for name in names if name in raw.bits)
    return np.asarray((raw.mask.astype(np.int64) & bits) != 0)


def _psf(header: TileHeader, file: BandFile, raw: _Raw, survey: Survey) -> tuple[FloatArray, Flag]:
    if file.psf is not None:
        with open_hdus(file.psf) as hdus:
            planes = find_planes(file.psf, hdus)
            stamp = np.array(planes.get(PSF, planes["IMAGE"]).data)
        return normalise_psf(stamp, file.psf), Flag(0)
    if raw.psf is not None:
        return normalise_psf(raw.psf, file.image), Flag(0)
    return nominal_psf(survey, file.band, pixel_scale=header.pixel_scale), Flag.PSF_NOMINAL
