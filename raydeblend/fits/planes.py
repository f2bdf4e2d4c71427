"""Which HDU of a tile is its image, mask, noise and PSF: by what their names mean, never by guess.

HDUs are named by EXTNAME or EXTTYPE in the usual spellings of the archives (`MEANINGS`).  HDUs 1,
2 and 3 without names are image, mask and variance, and a single image without any is the image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from astropy import units
from astropy.io import fits

from raydeblend.errors import TileError
from raydeblend.fits.hdus import by


class Meaning(StrEnum):
    """What an HDU holds, in the words of messages."""

    IMAGE = "image"
    MASK = "mask"
    VARIANCE = "variance"
    INVERSE_VARIANCE = "inverse variance"
    ERROR = "error"
    PSF = "PSF"
    WEIGHT = "weight of unknown meaning"
    PART = "part of the variance"
    OTHER = "something else"
    UNKNOWN = "unknown name"
    UNNAMED = "no name"


NOISE = (Meaning.VARIANCE, Meaning.INVERSE_VARIANCE, Meaning.ERROR)
POSITIONS = (Meaning.IMAGE, Meaning.MASK, Meaning.VARIANCE)
"""Of HDUs 1, 2 and 3 that have no names."""

MEANINGS: Mapping[Meaning, tuple[str, ...]] = {
    Meaning.IMAGE: ("IMAGE", "SCI", "SCIENCE", "IMG", "DATA", "COADD", "SIGNAL", "FLUX"),
    Meaning.MASK: (
        "MASK", "MSK", "DQ", "DQM", "FLAG", "FLAGS", "FLG", "MASKBITS", "BPM", "BADPIX", "QUALITY",
        "DATA_QUALITY", "DATAQUALITY", "BADPIXELS", "BAD_PIXEL_MASK",
    ),
    Meaning.VARIANCE: ("VARIANCE", "VAR", "VARIANCES", "VARIANCE_MAP", "VARMAP", "MAP_VARIANCE"),
    # DES and DECam write the inverse variance of a pixel as WGT.
    Meaning.INVERSE_VARIANCE: (
        "IVAR", "INVVAR", "INV_VAR", "INVVARIANCE", "INV_VARIANCE", "INVERSE_VARIANCE",
        "INVERSEVARIANCE", "IVM", "INVVARIANCE_MAP", "WGT",
    ),
    Meaning.ERROR: (
        "ERR", "ERROR", "ERRORS", "RMS", "RMSMAP", "RMS_MAP", "MAP_RMS", "SIGMA", "SIG", "STD",
        "STDEV", "STDDEV", "STDEVIATION", "NOISE", "UNC", "UNCERTAINTY",
    ),
    Meaning.PSF: ("PSF", "PSFIMAGE", "PSF_IMAGE", "PSF_STAMP"),
    # Exposure time with drizzle, relative with SWarp, a variance with Pan-STARRS.
    Meaning.WEIGHT: (
        "WHT", "WEIGHT", "WEIGHTS", "WT", "WEIGHTMAP", "WEIGHT_MAP", "MAP_WEIGHT", "UNCERT",
    ),
    Meaning.PART: ("VAR_POISSON", "VAR_RNOISE", "VAR_FLAT", "VAR_SKY", "READNOISE"),
    Meaning.OTHER: (
        "EXP", "EXPTIME", "EXPOSURE", "EXPMAP", "NEXP", "NIMAGE", "NUM", "NREAD", "CON", "CTX",
        "CONTEXT", "COV", "COVERAGE", "COVARIANCE", "AREA", "DEPTH", "SKY", "BKG", "BACKGROUND",
        "MODEL", "RESIDUAL", "RESID", "CHI", "CHI2", "SEG", "SEGMENTATION", "SEGMAP",
        "NOISE_REALIZATION",
        "NOISE_REALIZATIONS", "D2IMARR", "WCSDVARR",
    ),
}  # fmt: skip
_MEANING_OF = {name: meaning for meaning, names in MEANINGS.items() for name in names}

NO_NAMES = ("", "PRIMARY", "COMPRESSED_IMAGE")
"""What writers put where nobody gave a name; the last is fpack's."""
WEIGHT_CARDS = ("WHT_TYPE", "WHTTYPE", "WGT_TYPE", "WGTTYPE", "WEIGHT_TYPE", "UTYPE")
WEIGHT_TYPES: Mapping[str, Meaning] = {
    "IVM": Meaning.INVERSE_VARIANCE,
    "IVAR": Meaning.INVERSE_VARIANCE,
    "INVERSEVARIANCE": Meaning.INVERSE_VARIANCE,
    "ERR": Meaning.INVERSE_VARIANCE,  # drizzle's final_wht_type: weighted by 1 / error²
    "STDDEVUNCERTAINTY": Meaning.ERROR,  # astropy's CCDData
    "VARIANCEUNCERTAINTY": Meaning.VARIANCE,
    "EXP": Meaning.OTHER,
    "EXPTIME": Meaning.OTHER,
}
BITS = "MP_"
"""Begins the cards that name the planes of a mask."""


@dataclass(frozen=True)
class Planes:
    """The HDUs of one band; what is None is not there.

    `noise` is the variance, or what `noise_is` says.
    """

    image: fits.ImageHDU
    mask: fits.ImageHDU | None = None
    noise: fits.ImageHDU | None = None
    noise_is: Meaning = Meaning.VARIANCE
    psf: fits.ImageHDU | None = None
    bits: Mapping[str, int] | None = None


@dataclass(frozen=True)
class _Named:
    number: int
    hdu: fits.ImageHDU
    name: str
    meaning: Meaning

    def __str__(self) -> str:
        return f"HDU {self.number} ({self.name or 'no name'})"


def find_planes(path: str, hdus: fits.HDUList) -> Planes:
    """Tell the image, mask, noise and PSF of a tile apart; all but the image may be absent.

    Raises
    ------
    TileError
        Naming the HDUs: without an image, with two of one meaning, with a plane whose meaning is
        not known where one is lacking, of which the unit contradicts the name, or with a mask
        that does not say its bits.
    """
    named = _by_position(path, list(_images(path, hdus)))
    image = _only(path, named, (Meaning.IMAGE,))
    if image is None:
        raise TileError(f"{path} holds no image{_listed(named)}")
    named = [_by_unit(image, one) for one in named]
    mask = _only(path, named, (Meaning.MASK,))
    noise = _only(path, named, NOISE)
    psf = _only(path, named, (Meaning.PSF,))
    _check_left(path, named, mask, noise)
    for plane in (mask, noise):
        _check_shape(path, image, plane)
    if noise is not None:
        _check_unit(path, image, noise)
    return Planes(
        image=image.hdu,
        mask=mask and mask.hdu,
        noise=noise and noise.hdu,
        noise_is=noise.meaning if noise else Meaning.VARIANCE,
        psf=psf and psf.hdu,
        bits=mask_bits(f"{path}: {mask}", mask.hdu) if mask else None,
    )


def find_stamp(path: str, hdus: fits.HDUList) -> fits.ImageHDU:
    """Return the stamp of a PSF file: the HDU named PSF, or the only image.

    Raises
    ------
    TileError
        If there is none, or several without that name.
    """
    named = list(_images(path, hdus))
    psf = _only(path, named, (Meaning.PSF,))
    if psf is not None:
        return psf.hdu
    if not named:
        raise TileError(f"{path} holds no image")
    if len(named) > 1:
        raise TileError(f"{path} holds several images, none of them named PSF: {_join(named)}")
    return named[0].hdu


def _images(path: str, hdus: fits.HDUList) -> Iterator[_Named]:
    """Yield the HDUs with two axes; another number of them is refused where the name is known."""
    for number, hdu in enumerate(hdus):
        if not isinstance(hdu, fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU):
            continue
        name, meaning = _name(path, number, hdu)
        one = _Named(number, hdu, name, meaning)
        if len(hdu.shape) == 2:
            yield one
        elif hdu.shape and meaning in (Meaning.IMAGE, Meaning.MASK, Meaning.PSF, *NOISE):
            raise TileError(
                f"{path}: {one} has {len(hdu.shape)} axes ({by(hdu.shape)}), not two; cubes and "
                "PSFs by cell, as in LSST's DP2, are not read yet"
            )


def _name(path: str, number: int, hdu: fits.ImageHDU) -> tuple[str, Meaning]:
    """Return the name and meaning of an HDU; the HSC pipeline names by EXTTYPE, others EXTNAME."""
    names = [str(hdu.header.get(card) or "").strip() for card in ("EXTNAME", "EXTTYPE")]
    known = {name: _meaning(name, hdu.header) for name in names if name.upper() not in NO_NAMES}
    clear = [name for name, meaning in known.items() if meaning is not Meaning.UNKNOWN]
    if len({known[name] for name in clear}) > 1:
        raise TileError(f"{path}: HDU {number} has two names, {clear[0]} and {clear[1]}")
    name = next(iter(clear or known), "")
    return name, known.get(name, Meaning.UNNAMED)


def _meaning(name: str, header: fits.Header) -> Meaning:
    """Read a name in any case and with any separators; Euclid puts the chip's before a point."""
    for part in (name, re.split(r"[./]", name)[-1], name.split("/")[0]):
        key = re.sub(r"\W+", "_", part.strip().upper())
        if key in _MEANING_OF:
            meaning = _MEANING_OF[key]
            return _weight(header) if meaning is Meaning.WEIGHT else meaning
    return Meaning.UNKNOWN


def _weight(header: fits.Header) -> Meaning:
    """Return what a card says of a weight."""
    for card in WEIGHT_CARDS:
        said = re.sub(r"\W+|_", "", str(header.get(card, "")).upper())
        if said in WEIGHT_TYPES:
            return WEIGHT_TYPES[said]
    return Meaning.WEIGHT


def _by_unit(image: _Named, one: _Named) -> _Named:
    """Read the meaning of a weight from its unit, if it has one."""
    base, unit = _unit(image.hdu), _unit(one.hdu)
    if one.meaning is Meaning.WEIGHT and base is not None and unit is not None:
        for meaning, power in POWERS.items():
            if _equal(unit, base**power):
                return _as(one, meaning)
    return one


def _by_position(path: str, named: list[_Named]) -> list[_Named]:
    """Give HDUs 1, 2 and 3 without names their meanings, and a single image that of the image."""
    if len(named) == 1 and named[0].meaning in (Meaning.UNNAMED, Meaning.UNKNOWN):
        return [_as(named[0], Meaning.IMAGE)]
    unnamed = [one for one in named if one.meaning is Meaning.UNNAMED]
    if any(one.number == 0 for one in named):
        primary = named[0]
        if len(unnamed) > 1 and primary in unnamed:
            raise TileError(f"{path}: which is the image? {_join(unnamed)} have no names")
        return [_as(one, Meaning.IMAGE) if one in unnamed[:1] == [primary] else one
                for one in named]  # fmt: skip
    return [
        _as(one, POSITIONS[one.number - 1]) if one in unnamed and 1 <= one.number <= 3 else one
        for one in named
    ]


def _as(one: _Named, meaning: Meaning) -> _Named:
    return _Named(one.number, one.hdu, one.name, meaning)


def _only(path: str, named: Sequence[_Named], meanings: Sequence[Meaning]) -> _Named | None:
    found = [one for one in named if one.meaning in meanings]
    if len(found) > 1:
        what = " or ".join(dict.fromkeys(one.meaning for one in found))
        raise TileError(f"{path} holds more than one {what}: {_join(found)}")
    return found[0] if found else None


def _check_left(
    path: str, named: Sequence[_Named], mask: _Named | None, noise: _Named | None
) -> None:
    """Refuse a plane that may be what is lacking."""
    for one in named:
        if noise is None and one.meaning in (Meaning.WEIGHT, Meaning.PART):
            raise TileError(
                f"{path}: {one} is a {one.meaning}; name it IVAR if it is the inverse variance of "
                "each pixel, ERR or VARIANCE if it is one of these, EXP if it is none"
            )
        lacking = noise if is_float(one.hdu) else mask
        if lacking is None and one.meaning in (Meaning.UNKNOWN, Meaning.UNNAMED):
            raise TileError(
                f"{path}: nothing tells what {one} is; names that are known are "
                + ", ".join(names[0] for names in MEANINGS.values())
            )


def is_float(hdu: fits.ImageHDU) -> bool:
    """Tell whether an HDU holds other numbers than integers."""
    return int(hdu.header["BITPIX"]) < 0 or hdu.header.get("BSCALE", 1) != 1


def _check_shape(path: str, image: _Named, plane: _Named | None) -> None:
    if plane is not None and plane.hdu.shape != image.hdu.shape:
        raise TileError(
            f"{path}: IMAGE is {by(image.hdu.shape)} pixels, "
            f"{plane.name or plane.meaning.upper()} {by(plane.hdu.shape)}"
        )


POWERS = {Meaning.VARIANCE: 2, Meaning.ERROR: 1, Meaning.INVERSE_VARIANCE: -2}


def _check_unit(path: str, image: _Named, noise: _Named) -> None:
    """Refuse a noise whose BUNIT says that it is something else than its name does."""
    base, unit = _unit(image.hdu), _unit(noise.hdu)
    if base is None or unit is None:
        return
    if not _equal(unit, base ** POWERS[noise.meaning]):
        raise TileError(
            f"{path}: {noise} should be the {noise.meaning} of an image in {base}, but its BUNIT "
            f"is {noise.hdu.header['BUNIT']}"
        )


def _unit(hdu: fits.ImageHDU) -> units.UnitBase | None:
    """Return the unit of an HDU; None where it says none, or none that is known."""
    text = str(hdu.header.get("BUNIT") or "").strip()
    for known in (text, text.lower()):
        try:
            unit = units.Unit(known, parse_strict="raise")
        except (ValueError, TypeError):
            continue
        return None if unit == units.dimensionless_unscaled else unit
    return None


def _equal(one: units.UnitBase, other: units.UnitBase) -> bool:
    try:
        return bool(np.isclose(one.to(other), 1, rtol=1e-3))
    except units.UnitConversionError:
        return False


def mask_bits(where: str, hdu: fits.ImageHDU) -> dict[str, int]:
    """Return the bit of each plane of a mask by name, from its MP_ cards.

    Raises
    ------
    TileError
        If it names none, or one that its pixels cannot hold.
    """
    header = hdu.header
    if not any(str(card).startswith(BITS) for card in header):
        kind = "floating-point numbers" if is_float(hdu) else "integers"
        dp2 = any(str(card).startswith("MSKN") for card in header)
        hint = "; MSKN cards, those of LSST's DP2, are not read yet" if dp2 else ""
        raise TileError(
            f"{where} is a mask of {kind} whose planes have no names (MP_<PLANE> = bit){hint}"
        )
    width = 52 if is_float(hdu) else abs(int(header["BITPIX"]))
    bits = {}
    for card in header:
        if str(card).startswith(BITS):
            bit = header[card]
            if isinstance(bit, bool) or not isinstance(bit, int) or not 0 <= bit < width:
                raise TileError(f"{where} has no such bit: {card} = {bit!r}")
            bits[str(card)[len(BITS) :]] = bit
    return bits


def _join(named: Sequence[_Named]) -> str:
    return ", ".join(map(str, named))


def _listed(named: Sequence[_Named]) -> str:
    return f", only {_join(named)}" if named else ""
