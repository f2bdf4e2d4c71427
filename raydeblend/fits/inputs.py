"""Which files belong to which tile and band, by their names; none is opened here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from raydeblend import storage
from raydeblend.errors import ConfigError

LONGEST_NAME = 200
"""Bytes of a tile's name in a path; file systems take 255 in all."""
ENDINGS = ("", ".gz", ".fz", ".bz2", ".xz")
"""What may follow the name of a FITS file: nothing, or how it is compressed."""
COMPRESSED = f"({'|'.join(map(re.escape, ENDINGS))})"
"""Of a regular expression."""


@dataclass(frozen=True)
class Grid:
    """What a file's headers say: shape, celestial WCS (FITS cards) and nJy of one count."""

    shape: tuple[int, int]
    wcs: str
    njy_per_count: float


@dataclass(frozen=True)
class Source:
    """The files of one tile in one band, as in `raydeblend.tile.BandFile`.

    `grid` is given where the manifest tells what the headers would; `stamp` changes when a file
    does, and is empty where only opening the files would tell it.
    """

    image: str
    psf: str | None
    grid: Grid | None = None
    stamp: str = ""
    mask: str | None = None
    noise: str | None = None
    layout: str = "native"

    @property
    def paths(self) -> tuple[str, ...]:
        """All of them."""
        psfs = self.psf.split("\n") if self.psf else ()
        return tuple(path for path in (self.image, self.mask, self.noise, *psfs) if path)


Sources = dict[str, dict[str, Source]]
"""Tile name to band name to files."""


def match_patterns(
    root: str,
    bands: tuple[str, ...],
    image_pattern: str,
    psf_pattern: str,
    files: Mapping[str, str],
) -> Sources:
    """Sort the files below `root` by tile and band.

    A pattern is a path relative to `root` with ``{tile}`` (within one folder) and ``{band}``
    (one of `bands`, so that a PSF file is not mistaken for an image); what it matches may be
    compressed.  `files` are those below `root` and their stamps, as
    `raydeblend.storage.list_stamps` gives them.

    Raises
    ------
    ConfigError
        If the image pattern lacks a placeholder or matches no file, or two files of one tile and
        band.
    """
    regex = compile_pattern(image_pattern, bands)
    base = storage.join(storage.absolute(root), "")
    found: Sources = {}
    for path in files:
        match = regex.fullmatch(path.removeprefix(base))
        if match:
            tile, band = match["tile"], match["band"]
            others = found.setdefault(tile, {})
            if band in others:
                raise several(others[band].image, path, (tile, band))
            psf = _find(base + psf_pattern.replace("{tile}", tile).replace("{band}", band), files)
            stamps = " ".join(files[name] for name in (path, psf) if name)
            others[band] = Source(path, psf, stamp=stamps)
    if not found:
        raise ConfigError(
            f"{image_pattern!r} matches none of the {len(files)} files below {root} "
            f"in the bands {', '.join(bands)}"
        )
    return found


def _find(path: str, files: Mapping[str, str]) -> str | None:
    """Return the file of a path, which may be compressed; None if there is none."""
    return next((path + ending for ending in ENDINGS if path + ending in files), None)


def several(one: str, other: str, key: tuple[str, str]) -> ConfigError:
    """Return the error of two files of one tile and band."""
    return ConfigError(
        f"{one} and {other} are of one tile and band ({' '.join(key)}); leave one of them"
    )


def compile_pattern(pattern: str, bands: tuple[str, ...]) -> re.Pattern[str]:
    """Turn a pattern such as ``{tile}_{band}.fits`` into a regular expression.

    It matches compressed files too.

    Raises
    ------
    ConfigError
        If ``{tile}`` or ``{band}`` is missing.
    """
    groups = {"{tile}": "[^/]+", "{band}": "|".join(re.escape(band) for band in bands)}
    regex = ""
    for part in re.split(r"(\{tile\}|\{band\})", pattern):
        name = part[1:-1]
        if part not in groups:
            regex += re.escape(part)
        elif f"(?P<{name}>" in regex:
            regex += f"(?P={name})"
        else:
            regex += f"(?P<{name}>{groups[part]})"
    if "(?P<tile>" not in regex or "(?P<band>" not in regex:
        raise ConfigError(f"the image pattern {pattern!r} must hold {{tile}} and {{band}}")
    return re.compile(regex + COMPRESSED)


def check_names(names: Iterable[str]) -> None:
    """Check that tiles can give files their names.

    Raises
    ------
    ConfigError
        If one is too long; other characters than a file system takes are encoded.
    """
    for name in names:
        if len(quote(name)) > LONGEST_NAME:
            raise ConfigError(
                f"the name of tile {name[:40]!r}… is too long: a path takes {LONGEST_NAME} bytes, "
                f"this one needs {len(quote(name))}"
            )
