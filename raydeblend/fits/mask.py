"""The planes of a mask: which bit each has, and which pixels they rule out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from raydeblend.errors import ConfigError, TileError
from raydeblend.fits.layouts.record import Layout, Mask
from raydeblend.fits.tiled import bits_of_pixel
from raydeblend.tile import BoolArray

BITS = "MP_"
"""Begins the cards that name the planes of HSC's and LSST's masks: the value is the bit."""
NAMES, MASKS = "MSKN", "MSKM"
"""Begin the cards of lsst-images: the name of the n-th plane, and a number of its bit alone."""
BROTHERS = {BITS: "native, hsc or lsst", NAMES: "lsst-dp2"}
"""Layouts by the cards that they know, for a hint."""
FLOAT_BITS = 52


def mask_bits(where: str, hdu: fits.ImageHDU, layout: Layout) -> dict[str, int]:
    """Return the bit of each plane of a mask by name.

    Raises
    ------
    TileError
        If the mask names none in the way of the layout, or one that its pixels cannot hold.
    """
    rule, width = layout.mask, _width(hdu)
    if rule.cards is None:
        return {name: bit for name, bit in rule.bits.items() if bit < width}
    bits = dict(_CARDS[rule.cards](where, hdu.header, width))
    if not bits:
        kind = "floating-point numbers" if is_float(hdu) else "integers"
        raise TileError(
            f"{where} is a mask of {kind} whose planes have no names that the layout "
            f"{layout.name} knows ({_FORMS[rule.cards]}){_hint(where, hdu, rule.cards)}"
        )
    return bits


def is_float(hdu: fits.ImageHDU) -> bool:
    """Tell whether an HDU holds other numbers than integers."""
    return bits_of_pixel(hdu) < 0 or hdu.header.get("BSCALE", 1) != 1


def _width(hdu: fits.ImageHDU) -> int:
    return FLOAT_BITS if is_float(hdu) else abs(bits_of_pixel(hdu))


def _bits_by_name(where: str, header: fits.Header, width: int) -> Iterator[tuple[str, int]]:
    """Read cards such as ``MP_SAT = 1``."""
    for card in map(str, header):
        if card.startswith(BITS):
            bit = header[card]
            if isinstance(bit, bool) or not isinstance(bit, int) or not 0 <= bit < width:
                raise TileError(f"{where} has no such bit: {card} = {bit!r}")
            yield card[len(BITS) :], bit


def _names_by_number(where: str, header: fits.Header, width: int) -> Iterator[tuple[str, int]]:
    """Read cards such as ``MSKN0003 = 'SATURATED'`` and ``MSKM0003 = 8``."""
    for card in map(str, header):
        if card.startswith(NAMES):
            number = card[len(NAMES) :]
            mask = header.get(MASKS + number, 1 << int(number) if number.isdecimal() else None)
            good = isinstance(mask, int) and not isinstance(mask, bool)
            if not good or mask <= 0 or mask & (mask - 1) or mask.bit_length() > width:
                raise TileError(f"{where} has no such bit: {MASKS}{number} = {mask!r}")
            yield str(header[card]).strip(), mask.bit_length() - 1


_CARDS = {BITS: _bits_by_name, NAMES: _names_by_number}
_FORMS = {BITS: "MP_<PLANE> = bit", NAMES: "MSKN<n> = plane, MSKM<n> = 1 << bit"}


def _hint(where: str, hdu: fits.ImageHDU, cards: str) -> str:
    """Say what planes another layout finds."""
    for others, read in _CARDS.items():
        found = dict(read(where, hdu.header, _width(hdu))) if others != cards else {}
        if found:
            return (
                f"; its {others} cards are those of {BROTHERS[others]} and name "
                f"{', '.join(sorted(found))}"
            )
    return ""


def check_planes(planes: Sequence[str], layout: Layout) -> None:
    """Check the names of planes that a run is given, where the layout knows all there can be.

    Masks with ``MP_`` cards may name any.

    Raises
    ------
    ConfigError
        With the planes that there are.
    """
    rule = layout.mask
    known = dict.fromkeys((*rule.bad, *rule.saturated, *rule.harmless, *rule.bits))
    unknown = [plane for plane in planes if plane not in known]
    if unknown and rule.cards != BITS:
        raise ConfigError(
            f"the layout {layout.name} has no mask plane {unknown[0]!r}; it has {', '.join(known)}"
        )


def named_for(planes: Sequence[str], band: str) -> tuple[str, ...]:
    """Return names of planes for a band: ``SATUR_{BAND}`` is SATUR_R of r."""
    return tuple(plane.replace("{BAND}", band.upper()) for plane in planes)


def check_known(
    path: str, bits: Mapping[str, int], bad_planes: Sequence[str], rule: Mask, band: str
) -> None:
    """Check that a mask is one of which a plane is known.

    Raises
    ------
    TileError
        With the planes that it has.
    """
    known = {*bad_planes, *named_for((*rule.bad, *rule.saturated, *rule.harmless), band)}
    if not known & {*bits}:
        raise TileError(
            f"{path}: the mask has the planes {', '.join(sorted(bits))}; none of them is one of "
            f"{', '.join(bad_planes or rule.bad)}"
        )


def ruled_out(
    path: str, mask: NDArray[np.generic], bits: Mapping[str, int], planes: Sequence[str]
) -> BoolArray:
    """Return the pixels ``(y, x)`` of some planes; a pixel whose mask is not known is one.

    Raises
    ------
    TileError
        If the mask holds fractions.
    """
    if mask.dtype.kind in "iu":
        return pixels_of(mask, bits, planes)
    unknown = ~np.isfinite(mask)
    if (mask[~unknown] != np.floor(mask[~unknown])).any():
        raise TileError(f"{path}: the mask holds fractions, which are no bits")
    return np.asarray(pixels_of(mask, bits, planes) | unknown)


def pixels_of(
    mask: NDArray[np.generic], bits: Mapping[str, int], planes: Sequence[str]
) -> BoolArray:
    """Return the pixels ``(y, x)`` in which a bit of some planes is set."""
    wanted = np.uint64(sum(1 << bits[name] for name in {*planes} & {*bits}))
    if mask.dtype.kind not in "iu":
        mask = np.nan_to_num(mask, posinf=0, neginf=0).astype(np.int64)
    # As a number of the mask's own kind, of which the highest bit may be the sign.
    return np.asarray((mask & wanted.astype(mask.dtype)) != 0)
