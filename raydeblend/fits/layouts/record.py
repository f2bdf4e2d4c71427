"""A layout: how the files of a survey are called, and what is in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from raydeblend.fits.meaning import Meaning

NATIVE, AUTO = "native", "auto"
"""Files named by patterns or a manifest; the layout that the files below the input show."""
PSFS = ("stamp", "positions", "cells")
"""One stamp a tile; one for each of some positions, in files named by it; one a cell of a grid, in
the image's file as lsst-images writes them."""


@dataclass(frozen=True)
class FileName:
    """How files of one kind are called.

    Attributes
    ----------
    holds
        The image, the mask, a kind of noise, or the PSF.
    name
        Matches the whole name without folders and suffix.  Its group ``band`` is missing where one
        file is for all bands; ``ra`` and ``dec`` (degrees) are the position of a PSF.
    tiles
        Templates of the names of the tiles that it belongs to, of groups that matched.
    """

    holds: Meaning
    name: re.Pattern[str]
    tiles: tuple[str, ...]


@dataclass(frozen=True)
class Flux:
    """Where the flux of one count is told.

    Attributes
    ----------
    counts, magnitudes
        Cards with the counts of AB magnitude 0, and with the AB magnitude of one count.
    unit
        Of the pixels where no card tells one, for example ``nanomaggy``.
    """

    counts: tuple[str, ...] = ()
    magnitudes: tuple[str, ...] = ()
    unit: str | None = None


@dataclass(frozen=True)
class Mask:
    """How the planes of a mask are named, and which of them make a pixel unusable.

    Attributes
    ----------
    cards
        ``MP_`` (``MP_<PLANE> = bit``) or ``MSKN`` (``MSKN<n> = plane, MSKM<n> = 1 << bit``).
    bits
        The bit of each plane where no cards name them.
    bad, saturated
        Planes that make a pixel unusable, and those of saturated ones; ``{BAND}`` stands for the
        band in capitals.
    no_data
        Planes of pixels that were not observed; what else makes one unusable rules out data.
    harmless
        Other planes that are known.
    """

    cards: str | None
    bits: Mapping[str, int]
    bad: tuple[str, ...]
    saturated: tuple[str, ...]
    no_data: tuple[str, ...]
    harmless: tuple[str, ...]


@dataclass(frozen=True)
class Signature:
    """The card of the primary header that tells a layout from others of the same names."""

    card: str
    begins: str


@dataclass(frozen=True)
class Layout:
    """How a survey's tiles are delivered; see the shipped YAML files in this folder.

    Attributes
    ----------
    name
        What ``--layout`` takes; a path for a user's own.
    key
        The name of a shipped layout, or the text of a user's own, from which it can be made again.
    title, source, unverified
        What it reads, where that is documented, and what has not been checked.
    example
        The name of an image.
    auto
        Whether ``--layout auto`` recognizes it.
    signature
        None if the names are enough.
    survey
        Whose bands and nominal PSFs it goes with; None for the default.
    background
        ``none`` where the sky has been taken off, else ``local``.
    bands
        The bands by the names in file names, where they differ.
    files
        None where patterns or a manifest name them.
    hdus
        What HDUs hold by their names: capitals, with ``_`` for what is no letter or digit.
    psf
        One of `PSFS`.
    """

    name: str
    key: str
    title: str
    source: str
    unverified: str
    example: str
    auto: bool
    signature: Signature | None
    survey: str | None
    background: str
    bands: Mapping[str, str]
    files: tuple[FileName, ...]
    hdus: Mapping[str, Meaning]
    flux: Flux
    mask: Mask
    psf: str
