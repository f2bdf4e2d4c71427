"""A layout from YAML, checked: what it lacks, and what it says that no layout can, is named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from string import Formatter
from typing import Any

import yaml

from raydeblend.errors import ConfigError
from raydeblend.fits.layouts.record import PSFS, FileName, Flux, Layout, Mask, Signature
from raydeblend.fits.meaning import NOISE, Meaning, plain_name
from raydeblend.fits.units import UNITS_HELP, njy_of_unit

KEYS = (
    "title", "source", "unverified", "example", "auto", "recognized_by", "survey", "background",
    "bands", "files", "hdus", "flux", "mask", "psf",
)  # fmt: skip
NEEDED = ("title", "source")
IN_FILES = (Meaning.IMAGE, Meaning.MASK, *NOISE, Meaning.PSF)
IN_HDUS = tuple(m for m in Meaning if m not in (Meaning.UNKNOWN, Meaning.UNNAMED))
MASK_CARDS = ("MP_", "MSKN")
BACKGROUNDS = ("local", "none")

Plain = Mapping[str, Any]


def parse_layout(text: str, name: str, key: str, base: Layout | None = None) -> Layout:
    """Return the layout that a YAML text describes.

    Parameters
    ----------
    name, key
        See `Layout`.
    base
        Says what the text does not say of HDUs, flux, mask and PSF.

    Raises
    ------
    ConfigError
        Naming what is wrong, and what is valid.
    """
    try:
        plain = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"the layout {name} is not valid YAML: {' '.join(str(error).split())}"
        ) from error
    fail = partial(_fail, name)
    plain = _mapping(fail, "it", plain, KEYS, NEEDED)
    psf = plain.get("psf", base.psf if base else PSFS[0])
    background = _text(fail, "background", plain.get("background", "local"))
    _choice(fail, "psf", psf, PSFS)
    _choice(fail, "background", background, BACKGROUNDS)
    return Layout(
        name=name,
        key=key,
        title=_text(fail, "title", plain["title"]),
        source=_text(fail, "source", plain["source"]),
        unverified=_text(fail, "unverified", plain.get("unverified", "")),
        example=_text(fail, "example", plain.get("example", "")),
        auto=plain.get("auto", False) is True,
        signature=_signature(fail, plain.get("recognized_by")),
        survey=plain.get("survey") and _text(fail, "survey", plain["survey"]),
        background=background,
        bands=_bands(fail, plain.get("bands", {})),
        files=_files(fail, plain.get("files", ())),
        hdus=_hdus(fail, plain["hdus"]) if "hdus" in plain or not base else base.hdus,
        flux=_flux(fail, plain["flux"]) if "flux" in plain or not base else base.flux,
        mask=_mask(fail, plain["mask"]) if "mask" in plain or not base else base.mask,
        psf=psf,
    )


def _fail(layout: str, what: str) -> ConfigError:
    return ConfigError(f"the layout {layout} cannot be used: {what}")


def _mapping(
    fail: Any, what: str, value: object, keys: Iterable[str], needed: Iterable[str]
) -> Plain:
    if not isinstance(value, dict):
        raise fail(f"{what} must be a mapping, not {value!r}")
    keys = tuple(keys)
    unknown = [str(key) for key in value if key not in keys]
    if unknown:
        raise fail(f"{what} has the unknown key {unknown[0]!r}; valid: {', '.join(keys)}")
    missing = [key for key in needed if key not in value]
    if missing:
        raise fail(f"{what} lacks '{missing[0]}'")
    return value


def _text(fail: Any, what: str, value: object) -> str:
    if not isinstance(value, str):
        raise fail(f"{what} must be text, not {value!r}")
    return value


def _choice(fail: Any, what: str, value: object, valid: Iterable[str]) -> None:
    valid = tuple(valid)
    if value not in valid:
        raise fail(f"{what} is {value!r}; valid: {', '.join(valid)}")


def _names(fail: Any, what: str, value: object) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise fail(f"{what} must be a list of names, not {value!r}")
    return tuple(names)


def _signature(fail: Any, value: object) -> Signature | None:
    if value is None:
        return None
    keys = ("card", "begins")
    plain = _mapping(fail, "recognized_by", value, keys, keys)
    return Signature(*(_text(fail, f"recognized_by: {key}", plain[key]) for key in keys))


def _bands(fail: Any, value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise fail(f"bands must be a mapping, not {value!r}")
    return {_text(fail, "a band", name): _text(fail, "a band", value[name]) for name in value}


def _files(fail: Any, value: object) -> tuple[FileName, ...]:
    if not isinstance(value, list | tuple):
        raise fail(f"files must be a list, not {value!r}")
    files = tuple(_file(fail, f"file {n}", one) for n, one in enumerate(value, 1))
    if files and not any(file.holds is Meaning.IMAGE for file in files):
        raise fail("none of its files holds the image")
    return files


def _file(fail: Any, what: str, value: object) -> FileName:
    keys = ("holds", "name", "tile")
    plain = _mapping(fail, what, value, keys, keys)
    _choice(fail, f"{what}: holds", plain["holds"], IN_FILES)
    holds, tiles = Meaning(plain["holds"]), _names(fail, f"{what}: tile", plain["tile"])
    try:
        name = re.compile(_text(fail, f"{what}: name", plain["name"]))
    except re.error as error:
        raise fail(f"{what}: name is no regular expression: {error}") from error
    if holds is Meaning.IMAGE and "band" not in name.groupindex:
        raise fail(f"{what}: the name of an image needs a group (?P<band>…)")
    for tile in tiles:
        missing = set(fields(tile)) - name.groupindex.keys()
        if missing or not fields(tile):
            raise fail(f"{what}: tile {tile!r} must be made of groups of the name, {{like}} this")
    return FileName(holds, name, tiles)


def fields(template: str) -> tuple[str, ...]:
    """Return the names in braces in a template."""
    return tuple(name for _, name, _, _ in Formatter().parse(template) if name)


def _hdus(fail: Any, value: object) -> Mapping[str, Meaning]:
    plain = _mapping(fail, "hdus", value, IN_HDUS, (Meaning.IMAGE,))
    meanings: dict[str, Meaning] = {}
    for meaning, names in plain.items():
        for name in map(plain_name, _names(fail, f"hdus: {meaning}", names)):
            if name in meanings:
                raise fail(f"hdus: {name} stands for {meanings[name]} and for {meaning}")
            meanings[name] = Meaning(meaning)
    return meanings


def _flux(fail: Any, value: object) -> Flux:
    keys = ("counts_of_magnitude_0", "magnitude_of_one_count", "unit")
    plain = _mapping(fail, "flux", value, keys, ())
    counts, magnitudes = (_names(fail, f"flux: {key}", plain.get(key, ())) for key in keys[:2])
    unit = plain.get("unit")
    if unit is not None and njy_of_unit(_text(fail, "flux: unit", unit)) is None:
        raise fail(f"flux: unit is {unit!r}, which is no flux density; {UNITS_HELP}")
    return Flux(counts, magnitudes, unit)


def _mask(fail: Any, value: object) -> Mask:
    keys = ("cards", "bits", "bad", "saturated", "no_data", "harmless")
    plain = _mapping(fail, "mask", value, keys, ("bad",))
    if ("cards" in plain) == ("bits" in plain):
        raise fail("mask must have either cards or bits")
    if "cards" in plain:
        _choice(fail, "mask: cards", plain["cards"], MASK_CARDS)
    named = [_names(fail, f"mask: {key}", plain.get(key, ())) for key in keys[2:]]
    return Mask(plain.get("cards"), _bits(fail, plain.get("bits", {})), *named)


def _bits(fail: Any, value: object) -> Mapping[str, int]:
    good = isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(bit, int) and 0 <= bit < 64
        for name, bit in value.items()
    )
    if not good:
        raise fail(f"mask: bits must be a mapping of planes to bits from 0 to 63, not {value!r}")
    return dict(value)  # type: ignore[call-overload,no-any-return]
