"""What an HDU or a file of a tile can hold."""

from __future__ import annotations

import re
from enum import StrEnum


class Meaning(StrEnum):
    """What an HDU holds, in the words of messages and of layouts."""

    IMAGE = "image"
    MASK = "mask"
    VARIANCE = "variance"
    INVERSE_VARIANCE = "inverse variance"
    ERROR = "error"
    PSF = "PSF"
    REALIZATION = "noise realization"
    WEIGHT = "weight of unknown meaning"
    PART = "part of the variance"
    OTHER = "something else"
    UNKNOWN = "unknown name"
    UNNAMED = "no name"


NOISE = (Meaning.VARIANCE, Meaning.INVERSE_VARIANCE, Meaning.ERROR)
"""How the noise of pixels can be given."""


def plain_name(name: str) -> str:
    """Return the name of an HDU in capitals, with ``_`` for what is no letter or digit."""
    return re.sub(r"\W+", "_", name.strip().upper())
