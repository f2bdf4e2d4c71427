"""Coadds as the archives of HSC and LSST deliver them: which file is which patch and band.

A tile is a patch of a tract, ``9813-4,4``, or a cutout, ``9813-line2``.  Where patches or tracts
overlap, each position belongs to one of them, as anywhere in this package (`is_primary`).  Files
may lie in any folders; their names tell what they are.

hsc
    Coadds of the public releases, ``calexp-HSC-I-9813-4,4.fits``, and stamps of the PSF picker,
    ``2-psf-calexp-pdr3_wide-HSC-I-9813-4,4-150.17282-2.60907.fits`` or without the number of the
    request's line, the rerun and the position.  Cutouts, ``2-cutout-HSC-I-9813-pdr3_wide.fits``,
    go with the stamps of the same line.
lsst
    What ``butler retrieve-artifacts`` writes, ``deepCoadd_calexp_9813_42_i_<skymap>_<run>.fits``
    or ``deep_coadd_…``, and stamps that begin with ``psf_`` or end with ``_psf.fits``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.fits.inputs import Source, Sources

NATIVE = "native"
"""Names by patterns or by a manifest, as this package writes them."""

_SUFFIX = r"\.fits(?:\.gz|\.fz)?"
_LINE = r"(?:(?P<line>\d+)-)"
_HSC_BAND = r"(?P<band>HSC-[GRIZY]2?|NB\d+|IB\d+)"
_HSC = re.compile(
    rf"{_LINE}?(?P<psf>psf-)?calexp-(?:(?P<rerun>[a-z_][a-z0-9_]*)-)?{_HSC_BAND}"
    rf"-(?P<tract>\d+)-(?P<patch>\d+,\d+)(?P<position>-[-+.\d]+)?{_SUFFIX}"
)
_HSC_CUTOUT = re.compile(rf"{_LINE}cutout-{_HSC_BAND}-(?P<tract>\d+)(?:-[-\w]+)?{_SUFFIX}")
_LSST = re.compile(
    r"(?P<psf>psf_)?(?:deepCoadd|deep_coadd)(?:_calexp)?_(?P<tract>\d+)_(?P<patch>\d+|\d+,\d+)"
    rf"_(?P<band>[a-zA-Z]\w*?)(?:_[-\w.]*?)??(?P<psf_last>_psf)?{_SUFFIX}"
)


@dataclass(frozen=True)
class Named:
    """What a file name says; a PSF stamp may belong to a patch and to a cutout."""

    tiles: tuple[str, ...]
    band: str
    is_psf: bool


def parse_hsc(name: str) -> Named | None:
    """Read a name of HSC's archive; None for any other."""
    cutout = _HSC_CUTOUT.fullmatch(name)
    if cutout:
        tile = f"{int(cutout['tract'])}-line{int(cutout['line'])}"
        return Named((tile,), _short(cutout["band"]), False)
    match = _HSC.fullmatch(name)
    if not match:
        return None
    tract = int(match["tract"])
    tiles = [f"{tract}-{match['patch']}"]
    if match["psf"] and match["line"]:
        tiles.append(f"{tract}-line{int(match['line'])}")
    return Named(tuple(tiles), _short(match["band"]), bool(match["psf"]))


def _short(band: str) -> str:
    """Return i for HSC-I and for HSC-I2, the filter that replaced it."""
    match = re.fullmatch(r"HSC-([GRIZY])2?", band)
    return match[1].lower() if match else band


def parse_lsst(name: str) -> Named | None:
    """Read a name of LSST's data butler; None for any other."""
    match = _LSST.fullmatch(name)
    if not match:
        return None
    tile = f"{int(match['tract'])}-{match['patch']}"
    return Named((tile,), match["band"], bool(match["psf"] or match["psf_last"]))


_PARSERS: dict[str, Callable[[str], Named | None]] = {"hsc": parse_hsc, "lsst": parse_lsst}
_EXAMPLES = {"hsc": "calexp-HSC-I-9813-4,4.fits", "lsst": "deepCoadd_calexp_9813_42_i.fits"}
LAYOUTS = (NATIVE, *_PARSERS)


def match_layout(root: str, bands: tuple[str, ...], layout: str) -> Sources:
    """Sort the files below `root` by tile and band, after the names that an archive gave them.

    Raises
    ------
    ConfigError
        If there is no image in `bands`, or a tile has two images or two stamps of one band.
    """
    stamps = storage.list_stamps(root)
    images, psfs = _sorted(stamps, bands, _PARSERS[layout])
    if not images:
        raise ConfigError(
            f"none of the {len(stamps)} files below {root} is named as in the {layout} archive "
            f"in the bands {', '.join(bands)}, for example {_EXAMPLES[layout]}"
        )
    found: Sources = {}
    for key in sorted(images):
        image, psf = _only(images, key), _only(psfs, key) if key in psfs else None
        stamp = " ".join(stamps[path] for path in (image, psf) if path)
        found.setdefault(key[0], {})[key[1]] = Source(image, psf, stamp=stamp)
    return found


Files = dict[tuple[str, str], list[str]]
"""By tile and band."""


def _sorted(
    paths: Iterable[str], bands: tuple[str, ...], parse: Callable[[str], Named | None]
) -> tuple[Files, Files]:
    """Return images and PSF stamps by tile and band, of other bands none."""
    images: Files = {}
    psfs: Files = {}
    for path in paths:
        named = parse(path.rpartition("/")[2])
        if named and named.band in bands:
            for tile in named.tiles:
                (psfs if named.is_psf else images).setdefault((tile, named.band), []).append(path)
    return images, psfs


def _only(files: Files, key: tuple[str, str]) -> str:
    first, *others = files[key]
    if others:
        raise ConfigError(
            f"{first} and {others[0]} are of one tile and band ({' '.join(key)}); leave one of them"
        )
    return first
