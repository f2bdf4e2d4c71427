"""The flux of one count: from a zero-point card, the image's unit, or the run's --zeropoint."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from astropy.io import fits

from raydeblend.errors import ConfigError, TileError
from raydeblend.fits.layouts.record import Flux
from raydeblend.fits.sky import is_number
from raydeblend.fits.units import UNITS_HELP, is_count, njy_of_unit
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


def read_zero_point(
    path: str, headers: Sequence[fits.Header], zeropoint: float | None, flux: Flux
) -> float:
    """Return the nJy of one count: from the cards of a zero point, else BUNIT, else `zeropoint`.

    Parameters
    ----------
    headers
        The primary header and that of the image.
    flux
        Names the cards, and the unit of files that do not say theirs.

    Raises
    ------
    TileError
        If there is none, one that no detector has, or one that the unit of the image contradicts,
        or if the unit is neither a flux density nor counts.
    """
    unit = str(headers[-1].get("BUNIT") or "").strip()
    _check_unit(path, unit)
    by_unit = njy_of_unit(unit or flux.unit or "")
    njy = _from_headers(path, headers, flux)
    if njy is None and zeropoint is not None:
        njy = njy_per_count(zeropoint)
    if njy is None and by_unit is None:
        cards = " or ".join((*flux.counts, *flux.magnitudes)) or "a unit of flux in BUNIT"
        raise TileError(f"{path} has no zero point ({cards})")
    if njy is None:
        return float(by_unit or 0)
    if by_unit is not None and abs(by_unit / njy - 1) > SAME:
        raise TileError(
            f"{path} is in {unit or flux.unit}, but its zero point makes one count {njy:.5g} nJy; "
            "without a card of its own and without --zeropoint the unit holds"
        )
    return njy


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


def _from_headers(path: str, headers: Sequence[fits.Header], flux: Flux) -> float | None:
    for card in (*flux.counts, *flux.magnitudes):
        for cards in headers:
            if card in cards:
                return _from_card(path, card, cards[card], card in flux.magnitudes)
    return None


def _from_card(path: str, card: str, value: object, is_magnitude: bool) -> float:
    if is_number(value):
        number = float(str(value))
        if is_magnitude and _possible(number):
            return njy_per_count(number)
        if not is_magnitude and number > 0 and _possible(2.5 * math.log10(number)):
            return njy_per_count(0) / number
    raise TileError(f"{path} has an unusable zero point: {card} = {value!r}")


def _check_unit(path: str, unit: str) -> None:
    """Refuse magnitudes, surface brightnesses, and whatever else is no flux of a pixel."""
    if re.search(r"\bmag\b", unit.lower()):
        raise TileError(f"{path} is in {unit}; an image must be linear in flux")
    if not is_count(unit) and njy_of_unit(unit) is None:
        raise TileError(f"{path} is in {unit}, which is no flux of a pixel; {UNITS_HELP}")
