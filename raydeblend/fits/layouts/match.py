"""Files of a layout sorted by tile and band, after their names; none is opened here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from raydeblend.errors import ConfigError
from raydeblend.fits.inputs import COMPRESSED, Source, Sources, several
from raydeblend.fits.layouts.parse import fields
from raydeblend.fits.layouts.record import FileName, Layout
from raydeblend.fits.meaning import NOISE, Meaning

SUFFIX = re.compile(rf"\.fits?{COMPRESSED}$")
ALL_BANDS = ""

Files = dict[tuple[str, str], list[str]]
"""By tile and band."""


@dataclass(frozen=True)
class Named:
    """What a file's name says; a file may belong to a patch and to a cutout."""

    holds: Meaning
    tiles: tuple[str, ...]
    band: str


def match_layout(
    root: str, bands: tuple[str, ...], layout: Layout, stamps: Mapping[str, str]
) -> Sources:
    """Sort files below `root` by tile and band.

    Parameters
    ----------
    stamps
        The files and their stamps, as `raydeblend.storage.list_stamps` gives them.

    Raises
    ------
    ConfigError
        If there is no image in `bands`, or a tile has two images, masks, noises, or stamps of one
        place in one band.
    """
    files = _sort(layout, stamps)
    images = files[Meaning.IMAGE]
    found: Sources = {}
    for tile, band in sorted(images):
        if band in bands:
            found.setdefault(tile, {})[band] = _source(layout, files, (tile, band), stamps)
    if not found:
        raise ConfigError(_no_image(root, bands, layout, images, len(stamps)))
    return found


def parse_name(layout: Layout, path: str) -> Named | None:
    """Read a file's name; None if it is not one of the layout."""
    match = _match(layout, path)
    if match is None:
        return None
    file, groups = match
    values = {name: _plain(value) for name, value in groups.items() if value is not None}
    tiles = (tile.format(**values) for tile in file.tiles if {*fields(tile)} <= values.keys())
    band = groups.get("band") or ALL_BANDS
    return Named(file.holds, tuple(tiles), layout.bands.get(band, band))


def position(layout: Layout, path: str) -> tuple[float, float] | None:
    """Return the right ascension and declination (deg) in the name of a PSF file."""
    match = _match(layout, path)
    ra, dec = (match[1].get(name) if match else None for name in ("ra", "dec"))
    return (float(ra), float(dec)) if ra and dec else None


def _match(layout: Layout, path: str) -> tuple[FileName, Mapping[str, str | None]] | None:
    name, n = SUFFIX.subn("", path.rpartition("/")[2])
    if n:
        for file in layout.files:
            match = file.name.fullmatch(name)
            if match:
                return file, match.groupdict()
    return None


def _plain(value: str) -> str:
    """Return a number without leading zeros."""
    return str(int(value)) if value.isdecimal() else value


def _sort(layout: Layout, paths: Iterable[str]) -> Mapping[Meaning, Files]:
    """Return the files of each kind; those of the noise, whatever it is, as variances."""
    found: dict[Meaning, Files] = {kind: {} for kind in (Meaning.IMAGE, Meaning.MASK, Meaning.PSF)}
    found[Meaning.VARIANCE] = {}
    for path in paths:
        named = parse_name(layout, path)
        if named is None:
            continue
        kind = Meaning.VARIANCE if named.holds in NOISE else named.holds
        for tile in named.tiles:
            found[kind].setdefault((tile, named.band), []).append(path)
    return found


def _source(
    layout: Layout,
    files: Mapping[Meaning, Files],
    key: tuple[str, str],
    stamps: Mapping[str, str],
) -> Source:
    kinds = (Meaning.IMAGE, Meaning.MASK, Meaning.VARIANCE)
    image, mask, noise = (_only(files[kind], key) for kind in kinds)
    psfs = _all(files[Meaning.PSF], key)
    _check_places(layout, psfs, key)
    used = [path for path in (image, mask, noise, *psfs) if path]
    return Source(
        str(image),
        "\n".join(psfs) or None,
        stamp=" ".join(stamps[path] for path in used),
        mask=mask,
        noise=noise,
        layout=layout.key,
    )


def _all(files: Files, key: tuple[str, str]) -> list[str]:
    tile, _ = key
    return [*files.get(key, ()), *files.get((tile, ALL_BANDS), ())]


def _only(files: Files, key: tuple[str, str]) -> str | None:
    found = _all(files, key)
    if len(found) > 1:
        raise several(found[0], found[1], key)
    return found[0] if found else None


def _check_places(layout: Layout, psfs: list[str], key: tuple[str, str]) -> None:
    """Refuse several PSFs of a band that are not each of a place of its own."""
    seen: dict[tuple[float, float], str] = {}
    for path in psfs if len(psfs) > 1 else ():
        place = position(layout, path) if layout.psf == "positions" else None
        if place is None or place in seen:
            raise several(path, seen[place] if place else psfs[psfs[0] == path], key)
        seen[place] = path


def _no_image(
    root: str, bands: tuple[str, ...], layout: Layout, images: Files, n_files: int
) -> str:
    others = sorted({band for _, band in images})
    there = f"; there are images in {', '.join(others)}" if others else ""
    return (
        f"none of the {n_files} files below {root} is named as in the layout {layout.name} in the "
        f"bands {', '.join(bands)}, for example {layout.example}{there}"
    )


def iter_images(layout: Layout, paths: Iterable[str]) -> Iterator[str]:
    """Yield the paths that the layout takes for images, of any band."""
    for path in paths:
        named = parse_name(layout, path)
        if named and named.holds is Meaning.IMAGE:
            yield path
