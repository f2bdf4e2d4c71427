"""Layouts: how the tiles of a survey are delivered, each a YAML file in this folder.

`raydeblend.fits.layouts.record.Layout` says what one holds; what a file does not say of HDUs, flux,
mask and PSF is as in ``native.yaml``.  `raydeblend.fits.layouts.match` sorts files by their names,
`raydeblend.fits.layouts.recognize` tells which layout a folder has.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from raydeblend import storage
from raydeblend.errors import ConfigError
from raydeblend.fits.layouts.parse import parse_layout
from raydeblend.fits.layouts.record import AUTO, NATIVE, Layout
from raydeblend.wording import beside

__all__ = [
    "AUTO", "NATIVE", "Layout", "describe", "find_layout", "is_file", "make_layout", "shipped",
    "text_of",
]  # fmt: skip

FOLDER = Path(__file__).parent
SUFFIXES = (".yaml", ".yml")


@cache
def shipped() -> tuple[str, ...]:
    """Return the names of the layouts that come with the package."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


@cache
def make_layout(key: str) -> Layout:
    """Return the layout of a key (`Layout.key`): a shipped name, or the text of a user's own."""
    base = None if key == NATIVE else make_layout(NATIVE)
    if key in shipped():
        return parse_layout(_text(key), key, key, base)
    return parse_layout(key, "of a file", key, base)


def find_layout(name: str) -> Layout:
    """Return the layout that ``--layout`` names: a shipped one, or a user's YAML file.

    Raises
    ------
    ConfigError
        If there is none of that name, or the file cannot be read or used.
    """
    if name in shipped():
        return make_layout(name)
    if not is_file(name):
        valid = ", ".join((AUTO, *shipped()))
        raise ConfigError(f"unknown layout {name!r}; valid: {valid}, or a file as FILE.yaml")
    try:
        text = storage.read_bytes(name).decode()
    except (*storage.READ_ERRORS, UnicodeDecodeError) as error:
        raise ConfigError(f"the layout {name} cannot be read: {storage.explain(error)}") from error
    return parse_layout(text, storage.absolute(name), text, make_layout(NATIVE))


def is_file(name: str) -> bool:
    """Tell whether a layout's name is that of a user's file."""
    return name.endswith(SUFFIXES)


def text_of(name: str) -> str:
    """Return the YAML of a layout.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    key = find_layout(name).key
    return _text(key) if key in shipped() else key


def describe() -> list[str]:
    """Return lines that tell a person of the shipped layouts."""
    return [line for name in shipped() for line in _lines(make_layout(name))]


def _lines(layout: Layout) -> list[str]:
    told = {
        "like": layout.example,
        "survey": layout.survey or "any, by default HSC",
        "bad planes": ", ".join(layout.mask.bad),
        "not verified": layout.unverified,
        "source": layout.source,
    }
    how = "" if layout.auto else " (not recognized by auto)"
    return [beside(f"{layout.name}{how}: ", layout.title)] + [
        beside(f"    {what}: ", text) for what, text in told.items() if text
    ]


def _text(name: str) -> str:
    return (FOLDER / f"{name}.yaml").read_text()
