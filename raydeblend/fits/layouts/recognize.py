"""Which layout a folder has: by its file names and, if these are ambiguous, by a header card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice

from raydeblend.errors import ConfigError, TileError
from raydeblend.fits.hdus import open_hdus
from raydeblend.fits.inputs import compile_pattern
from raydeblend.fits.layouts import NATIVE, Layout, make_layout, shipped
from raydeblend.fits.layouts.match import iter_images, parse_name

TRIES = 5
"""Files of which one must be whole to tell by a card."""


def recognize(
    root: str, bands: tuple[str, ...], image_pattern: str, stamps: Mapping[str, str]
) -> Layout:
    """Return the shipped layout that the files below `root` have.

    One that a card tells goes before those of the same names; native, by `image_pattern`, is what
    no other takes.

    Raises
    ------
    ConfigError
        If files of several layouts lie there, or of none.
    """
    known = [make_layout(name) for name in shipped() if name != NATIVE]
    told = {layout.name: path for layout in known if (path := _example(layout, stamps))}
    found = [layout for layout in known if layout.name in told]
    signed = [layout for layout in found if layout.signature]
    found = [layout for layout in found if layout in signed or not _taken(told, layout, signed)]
    native = _native(root, bands, image_pattern, stamps, found)
    if len(found) + bool(native) > 1:
        examples = [f"{told[layout.name]} ({layout.name})" for layout in found]
        examples += [f"{native} ({NATIVE})"] if native else []
        raise ConfigError(f"several layouts lie below {root}: {', '.join(examples)}; choose one "
                          "with --layout")  # fmt: skip
    if not found and not native:
        raise ConfigError(_nothing(root, bands, image_pattern, len(stamps), known))
    return found[0] if found else make_layout(NATIVE)


def _example(layout: Layout, paths: Iterable[str]) -> str | None:
    """Return an image of a layout; None if there is none, or its cards say otherwise."""
    if not layout.auto:
        return None
    images = iter_images(layout, paths)
    if layout.signature is None:
        return next(images, None)
    return next((path for path in islice(images, TRIES) if _is_signed(layout, path)), None)


def _is_signed(layout: Layout, path: str) -> bool:
    signature = layout.signature
    try:
        with open_hdus(path, whole=False) as hdus:
            card = str(hdus[0].header.get(signature.card, "")) if signature else ""
    except TileError:  # that it is damaged is told when it is read
        return False
    return signature is not None and card.startswith(signature.begins)


def _taken(told: Mapping[str, str], layout: Layout, signed: Iterable[Layout]) -> bool:
    """Tell whether a layout's image is one by the names of a layout that a card has told."""
    return any(parse_name(other, told[layout.name]) for other in signed)


def _native(
    root: str,
    bands: tuple[str, ...],
    image_pattern: str,
    paths: Iterable[str],
    others: Iterable[Layout],
) -> str | None:
    """Return an image by the pattern that no other layout takes."""
    regex, start = compile_pattern(image_pattern, bands), _start(root)
    for path in paths:
        if regex.fullmatch(path.removeprefix(start)) and not any(
            parse_name(layout, path) for layout in others
        ):
            return path
    return None


def _start(root: str) -> str:
    from raydeblend import storage

    return storage.join(storage.absolute(root), "")


def _nothing(
    root: str, bands: tuple[str, ...], pattern: str, n_files: int, known: Iterable[Layout]
) -> str:
    ways = [f"{layout.example} ({layout.name})" for layout in known if layout.auto]
    return (
        f"{pattern!r} matches none of the {n_files} files below {root} in the bands "
        f"{', '.join(bands)}; nor is one named as {', '.join(ways)}"
    )
