"""What a BUNIT says of the pixels: a flux density, counts, or what cannot be measured."""

from __future__ import annotations

import re

from astropy import units

NJY_OF_MAGGY = 3.631e12
"""AB: a source of magnitude 0 has 3631 Jy (Oke & Gunn 1983)."""
PREFIXES = {"": 1.0, "n": 1e-9, "nano": 1e-9, "u": 1e-6, "micro": 1e-6}
MAGGIES = re.compile(r"(nano|micro|n|u|)(maggy|maggies|mgys?)", re.IGNORECASE)
COUNTS = re.compile(
    r"(adus?|dn|cts?|counts?|e-?|electrons?|photons?|ph)"
    r"( ?/ ?(s|sec|second|seconds)| s-1| s\*\*-1| s\^-1)?\.?",
    re.IGNORECASE,
)
NO_UNIT = ("", "unknown", "none", "dimensionless", "unitless")
UNITS_HELP = (
    "valid: nJy, uJy, Jy, W/m2/Hz and the like, nanomaggy and maggy, and counts (adu, electron, "
    "ct) with a zero point"
)


def njy_of_unit(text: str) -> float | None:
    """Return the nJy of a flux density's unit, nanomaggies included; None if it is none."""
    maggies = MAGGIES.fullmatch(text.strip())
    if maggies:
        return PREFIXES[maggies[1].lower()] * NJY_OF_MAGGY
    try:
        unit = units.Unit(text, parse_strict="silent")
        return float(unit.to(units.nJy)) if text.strip() else None
    except (ValueError, TypeError, units.UnitConversionError):
        return None


def is_count(text: str) -> bool:
    """Tell whether a unit is counts, which have a flux only by a zero point; so is no unit."""
    plain = text.strip()
    return plain.lower() in NO_UNIT or COUNTS.fullmatch(plain) is not None
