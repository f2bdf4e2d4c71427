"""The zero point of an image: FLUXMAG0, else MAGZERO, else the one that the run is given."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from astropy import units
from astropy.io import fits

from raydeblend.errors import ConfigError, TileError
from raydeblend.fits.sky import is_number
from raydeblend.survey import NJY_ZERO_POINT

ZERO_POINTS = (-60.0, 60.0)
"""AB magnitudes of one count.  Images in W/m²/Hz have -56.1, in erg/s/cm²/Hz -48.6, in maggies 0,
in nJy 31.4, in electrons of a night 43; -99 and 99 stand for none."""
SAME = 0.01
"""Relative difference that rounding of a zero point may make."""


def njy_per_count(zeropoint: float) -> float:
    """Return the flux in nJy of one count at an AB zero point (57.544 at 27)."""
    return float(10 ** (0.4 * (NJY_ZERO_POINT - zeropoint)))


def check_zero_point(zeropoint: float) -> None:
    """Check the zero point that a run is given.

    Raises
    ------
    ConfigError
        If no detector has it.
    """
    if not _possible(zeropoint):
        low, high = ZERO_POINTS
        raise ConfigError(
            f"the zero point must be an AB magnitude from {low:g} to {high:g}, not {zeropoint}"
        )


def read_zero_point(path: str, headers: Sequence[fits.Header], zeropoint: float | None) -> float:
    """Return the nJy of one count, from FLUXMAG0, else MAGZERO, else `zeropoint`.

    Raises
    ------
    TileError
        If there is none, one that no detector has, or one that the unit of the image contradicts.
    """
    njy = _from_headers(path, headers)
    if njy is None and zeropoint is None:
        raise TileError(f"{path} has no zero point (FLUXMAG0 or MAGZERO)")
    found = njy if njy is not None else njy_per_count(float(zeropoint or 0))
    _check_unit(path, str(headers[-1].get("BUNIT") or "").strip(), found)
    return found


def check_njy(path: str, njy: float) -> None:
    """Check the nJy of one count that a manifest gives.

    Raises
    ------
    TileError
        If no detector has it.
    """
    if not (math.isfinite(njy) and njy > 0 and _possible(NJY_ZERO_POINT - 2.5 * math.log10(njy))):
        raise TileError(f"{path} has an unusable zero point: njy_per_count = {njy!r}")


def _possible(zeropoint: float) -> bool:
    return ZERO_POINTS[0] <= zeropoint <= ZERO_POINTS[1]


def _from_headers(path: str, headers: Sequence[fits.Header]) -> float | None:
    for card in ("FLUXMAG0", "MAGZERO"):
        for cards in headers:
            if card in cards:
                return _from_card(path, card, cards[card])
    return None


def _from_card(path: str, card: str, value: object) -> float:
    if is_number(value):
        number = float(str(value))
        if card == "MAGZERO" and _possible(number):
            return njy_per_count(number)
        if card == "FLUXMAG0" and number > 0 and _possible(2.5 * math.log10(number)):
            return njy_per_count(0) / number
    raise TileError(f"{path} has an unusable zero point: {card} = {value!r}")


def _check_unit(path: str, text: str, njy: float) -> None:
    """Refuse magnitudes, and a flux density with another zero point than its own."""
    unit = units.Unit(text, parse_strict="silent")
    if re.search(r"\bmag\b", text.lower()) or isinstance(unit, units.function.FunctionUnitBase):
        raise TileError(f"{path} is in {text}; an image must be linear in flux")
    if isinstance(unit, units.UnrecognizedUnit) or not unit.is_equivalent(units.nJy):
        return
    if abs(unit.to(units.nJy) / njy - 1) > SAME:
        raise TileError(
            f"{path} is in {text}, but its zero point makes one count {njy:.5g} nJy; "
            "without a card of its own --zeropoint 31.4 is that of nJy"
        )
