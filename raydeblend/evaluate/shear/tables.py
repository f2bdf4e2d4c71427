"""Tables of the protocol `shear`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raydeblend.evaluate.common.rows import Row, cell
from raydeblend.evaluate.common.tables import Table
from raydeblend.evaluate.shear.rows import PAIR, SINGLE

_COLUMNS: Mapping[str, tuple[str, str]] = {
    "response": ("mean R", ".3f"),
    "m1_raw": ("m1 without R", "+.1%"),
    "m2_raw": ("m2 without R", "+.1%"),
    "m1": ("m1", "+.1%"),
    "m2": ("m2", "+.1%"),
    "m": ("m", "+.1%"),
    "c1": ("c1", "+.4f"),
    "c2": ("c2", "+.4f"),
}
_AXIS: Mapping[str, tuple[str, str]] = {
    "m_along_raw": ("m along the pair, without R", "+.1%"),
    "m_across_raw": ("at 45° to it, without R", "+.1%"),
    "m_along": ("m along the pair", "+.1%"),
    "m_across": ("at 45° to it", "+.1%"),
}
_TITLES = {SINGLE: "Shear of isolated galaxies", PAIR: "Shear of pairs"}
_WORDS = (
    "⟨g⟩ = (1 + m) γ + c without R, ⟨g⟩ / ⟨R⟩ = (1 + m) γ + c with it; rings of four angles, ±0.02 "
    "in the same noise; both components together, and each. After ± half of the 95 % interval "
    "(objects resampled). Found: measured under every shear and angle."
)


def shear_tables(rows: Sequence[Row]) -> list[Table]:
    """Return a table for each deblender and kind of objects; of pairs one by their axis too."""
    tables = []
    for objects, title in _TITLES.items():
        own = [row for row in rows if row["n_galaxies"] == objects]
        for name in dict.fromkeys(str(row["deblender"]) for row in own):
            chosen = [row for row in own if row["deblender"] == name]
            tables.append(_table(chosen, _COLUMNS, f"{title}, {name}"))
            if objects == PAIR:
                tables.append(_table(chosen, _AXIS, f"{title} by their axis, {name}"))
    return tables


def _table(rows: Sequence[Row], columns: Mapping[str, tuple[str, str]], title: str) -> Table:
    header = ["galaxies", "n", "found", *(words for words, _ in columns.values())]
    lines = [
        [
            str(row["galaxy"]),
            str(row["n"]),
            format(float(row["found"]), ".1%"),
            *(cell(row, key, spec) for key, (_, spec) in columns.items()),
        ]
        for row in rows
    ]
    return Table(header, lines, title, (_WORDS,))
