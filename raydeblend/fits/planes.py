"""Which HDU of a tile is its image, mask, noise and PSF: by what their names mean, never by guess.

HDUs are named by EXTNAME or EXTTYPE as their layout says (`Layout.hdus`), in any case.  HDUs 1, 2
and 3 without names are image, mask and variance, and a single image without any is the image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from astropy import units
from astropy.io import fits

from raydeblend.errors import TileError
from raydeblend.fits.hdus import by
from raydeblend.fits.layouts.match import parse_name
from raydeblend.fits.layouts.record import Layout
from raydeblend.fits.mask import is_float, mask_bits
from raydeblend.fits.meaning import NOISE, Meaning, plain_name
from raydeblend.fits.tiled import as_image, image_shape, is_image

POSITIONS = (Meaning.IMAGE, Meaning.MASK, Meaning.VARIANCE)
"""Of HDUs 1, 2 and 3 that have no names."""

UNUSED = (Meaning.OTHER, Meaning.REALIZATION)
"""What no tile is read from."""
CELL_AXES = 4
"""Of a PSF by cell: cells y, cells x, py, px."""
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


@dataclass(frozen=True)
class Planes:
    """The HDUs of one band; what is None is not there.

    `noise` is the variance, or what `noise_is` says; `psf` has two axes, or four if it is by cell.
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


def find_planes(path: str, hdus: fits.HDUList, layout: Layout) -> Planes:
    """Tell the image, mask, noise and PSF of a tile apart; all but the image may be absent.

    Raises
    ------
    TileError
        Naming the HDUs: without an image, with two of one meaning, with a plane whose meaning is
        not known where one is lacking, of which the unit contradicts the name, or with a mask
        that does not say its bits.
    """
    named = _by_position(path, list(_images(path, hdus, layout)))
    image = _only(path, named, (Meaning.IMAGE,))
    if image is None:
        raise TileError(f"{path} holds no image{_listed(named)}")
    named = [_by_unit(image, one) for one in named]
    mask = _only(path, named, (Meaning.MASK,))
    noise = _only(path, named, NOISE)
    psf = _only(path, named, (Meaning.PSF,))
    _check_left(path, named, mask, noise, layout)
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
        bits=mask_bits(f"{path}: {mask}", mask.hdu, layout) if mask else None,
    )


def find_mask(
    path: str, hdus: fits.HDUList, layout: Layout, shape: tuple[int, int]
) -> tuple[fits.ImageHDU, Mapping[str, int]]:
    """Return the mask of a file of its own, and the bits of its planes.

    Raises
    ------
    TileError
        If it holds none or several, one of another shape, or one that does not say its bits.
    """
    mask = _part(path, hdus, layout, (Meaning.MASK,), shape)
    return mask.hdu, mask_bits(f"{path}: {mask}", mask.hdu, layout)


def find_noise(
    path: str, hdus: fits.HDUList, layout: Layout, shape: tuple[int, int]
) -> tuple[fits.ImageHDU, Meaning]:
    """Return the noise of a file of its own, and what it is: by its HDU's name, or the file's.

    Raises
    ------
    TileError
        If nothing tells what it is, or it has another shape.
    """
    noise = _part(path, hdus, layout, NOISE, shape)
    return noise.hdu, noise.meaning


def _part(
    path: str,
    hdus: fits.HDUList,
    layout: Layout,
    meanings: tuple[Meaning, ...],
    shape: tuple[int, int],
) -> _Named:
    """Return the one HDU of a file that has one of some meanings."""
    named, file = list(_images(path, hdus, layout)), parse_name(layout, path)
    part = _only(path, named, meanings)
    if part is None and len(named) == 1 and file and file.holds in meanings:
        part = replace(named[0], meaning=file.holds)
    if part is None:
        raise TileError(f"{path} holds no {' or '.join(meanings)}{_listed(named)}")
    if part.hdu.shape != shape:
        raise TileError(
            f"{path}: the {part.meaning} is {by(part.hdu.shape)} pixels, the image {by(shape)}"
        )
    return part


def find_realization(path: str, hdus: fits.HDUList, layout: Layout) -> fits.ImageHDU | None:
    """Return the first image of noise alone, drawn as the coadd's; None if there is none."""
    found = [n for n in _images(path, hdus, layout) if n.meaning is Meaning.REALIZATION]
    return as_image(found[0].hdu) if found else None


def find_stamp(path: str, hdus: fits.HDUList, layout: Layout) -> fits.ImageHDU:
    """Return the stamp of a PSF file: the HDU named PSF, or the only image.

    Raises
    ------
    TileError
        If there is none, or several without that name.
    """
    named = list(_images(path, hdus, layout))
    psf = _only(path, named, (Meaning.PSF,))
    if psf is not None:
        return psf.hdu
    if not named:
        raise TileError(f"{path} holds no image")
    if len(named) > 1:
        raise TileError(f"{path} holds several images, none of them named PSF: {_join(named)}")
    return named[0].hdu


def _images(path: str, hdus: fits.HDUList, layout: Layout) -> Iterator[_Named]:
    """Yield the HDUs with two axes, and a PSF by cell with four.

    Another number of them is refused where the name is known.
    """
    for number, hdu in enumerate(hdus):
        if not is_image(hdu):
            continue
        name, meaning = _name(path, number, hdu, layout.hdus)
        shape = image_shape(hdu)
        one = _Named(number, hdu, name, meaning)
        if len(shape) == 2 or (meaning is Meaning.PSF and len(shape) == CELL_AXES):
            yield one if meaning in UNUSED else replace(one, hdu=as_image(hdu))
        elif shape and meaning in (Meaning.IMAGE, Meaning.MASK, Meaning.PSF, *NOISE):
            raise TileError(f"{path}: {one} has {len(shape)} axes ({by(shape)}), not two")


def _name(
    path: str, number: int, hdu: fits.ImageHDU, meanings: Mapping[str, Meaning]
) -> tuple[str, Meaning]:
    """Return the name and meaning of an HDU; the HSC pipeline names by EXTTYPE, others EXTNAME."""
    names = [str(hdu.header.get(card) or "").strip() for card in ("EXTNAME", "EXTTYPE")]
    known = {
        name: _meaning(name, hdu.header, meanings) for name in names if name.upper() not in NO_NAMES
    }
    clear = [name for name, meaning in known.items() if meaning is not Meaning.UNKNOWN]
    if len({known[name] for name in clear}) > 1:
        raise TileError(f"{path}: HDU {number} has two names, {clear[0]} and {clear[1]}")
    name = next(iter(clear or known), "")
    return name, known.get(name, Meaning.UNNAMED)


def _meaning(name: str, header: fits.Header, meanings: Mapping[str, Meaning]) -> Meaning:
    """Read a name in any case and with any separators.

    LSST puts a number or name of a part after a slash, Euclid the chip's before a point.
    """
    for part in (name, name.split("/")[0], re.split(r"[./]", name)[-1]):
        key = plain_name(part)
        if key in meanings:
            meaning = meanings[key]
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
    path: str,
    named: Sequence[_Named],
    mask: _Named | None,
    noise: _Named | None,
    layout: Layout,
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
                f"{path}: nothing tells what {one} is; known names: "
                + ", ".join(_first_names(layout))
            )


def _first_names(layout: Layout) -> list[str]:
    """Return a name for each meaning that the layout knows."""
    first: dict[Meaning, str] = {}
    for name, meaning in layout.hdus.items():
        first.setdefault(meaning, name)
    return list(first.values())


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


def _join(named: Sequence[_Named]) -> str:
    return ", ".join(map(str, named))


def _listed(named: Sequence[_Named]) -> str:
    return f", only {_join(named)}" if named else ""
