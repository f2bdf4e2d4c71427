"""What `raydeblend weights` prints: the shipped weights and calibrations, or the card of one."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from raydeblend.errors import ConfigError
from raydeblend.networks.weights import load_card, shipped_weights
from raydeblend.shipped import SHIPPED

MOST_BANDS, DATA_WIDTH = 3, 60
"""More bands are counted, longer texts cut."""
CALIBRATIONS = {
    "bad": "of p_bad",
    "inputs": "of what networks have learnt from",
    "star": "of p_star",
    "structure": "of what is part of a galaxy",
    "suspect": "of p_unrecognized_blend",
}


def list_shipped() -> list[tuple[str, str]]:
    """Return the shipped weights and calibrations: columns of a line each, and what they are of."""
    rows = [_line(name, path) for name, path in shipped_weights().items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    lines = [
        ("".join(f"{cell:<{width}}  " for cell, width in zip(short, widths, strict=True)), data)
        for *short, data in rows
    ]
    of = [(f"{name:<{widths[0]}}  ", f"calibration {what}") for name, what in CALIBRATIONS.items()]
    return lines + of


def _line(name: str, path: str) -> tuple[str, ...]:
    card = load_card(path)
    data = str(card.training.get("data", "unknown")).split(";")[0]
    size = f"{Path(path).stat().st_size / 1e6:.1f} MB"
    bands = ",".join(card.bands) if len(card.bands) <= MOST_BANDS else f"{len(card.bands)} bands"
    return name, bands, _scale(card.pixel_scale), size, _shortened(data)


def _shortened(data: str) -> str:
    return textwrap.shorten(data, DATA_WIDTH, placeholder=" …")


def _scale(pixel_scale: tuple[float, float]) -> str:
    low, high = pixel_scale
    if not high:
        return "pictures"
    return f'{low:g}"' if low == high else f'{low:g}-{high:g}"'


def describe_shipped(name: str) -> str:
    """Return the card of shipped weights, or of a calibration, as plain text.

    Raises
    ------
    ConfigError
        If none of that name is shipped.
    """
    shipped = shipped_weights()
    if name in CALIBRATIONS:
        return _calibration(name)
    if name not in shipped:
        known = ", ".join([*shipped, *CALIBRATIONS])
        raise ConfigError(f"no weights called {name!r} are shipped; there are {known}")
    card = load_card(shipped[name])
    head = "  ".join(_line(name, shipped[name])[:4])
    head += f", commit {card.commit[:7]}, sha256 {card.sha256[:12]}"
    return "\n".join([head, *_card_lines(card.training, card.scores)])


def _calibration(name: str) -> str:
    card = json.loads((SHIPPED / f"{name}.json").read_text())["card"]
    head = f"{name}  calibration {CALIBRATIONS[name]}, commit {card.get('commit', 'unknown')[:7]}"
    return "\n".join([head, *_card_lines(card["training"], card["scores"])])


def _card_lines(training: Mapping[str, Any], scores: Any) -> Iterator[str]:
    """Yield what weights were trained on, and how they scored by what was measured."""
    yield from _wrapped("", f"trained on: {training.get('data', 'unknown')}")
    if not isinstance(scores, Mapping) or not any(map(_is_nested, scores.values())):
        # A calibration's: one evaluation, or a row for each range of magnitudes.
        scores = {"held-out scores": scores}
    for measured, numbers in scores.items():
        yield measured
        for row in _rows(numbers):
            yield from _wrapped("  ", row)


def _is_nested(value: object) -> bool:
    return isinstance(value, list | dict)


def _rows(scores: Any) -> Iterator[str]:
    """Yield the numbers of one evaluation as text: tables, rows, or names with values."""
    if isinstance(scores, list):
        for each in scores:
            yield from _table_rows(each) if "rows" in each else _rows(each)
    elif isinstance(scores, Mapping):
        yield ", ".join(f"{name} {_number(value)}" for name, value in scores.items())
    else:
        yield _number(scores)


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)


def _table_rows(table: Mapping[str, Any]) -> Iterator[str]:
    for row in table["rows"]:
        yield ", ".join(f"{c} {v}" for c, v in zip(table["columns"], row, strict=True))


def _wrapped(indent: str, text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=indent, subsequent_indent=indent + "  ")
