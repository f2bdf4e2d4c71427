"""Tables of the protocol `singles`, with the deblenders side by side."""

from __future__ import annotations

from collections.abc import Sequence

from raydeblend.evaluate.common.rows import Row, cell
from raydeblend.evaluate.common.tables import Table
from raydeblend.evaluate.singles.rows import CLASS, CLASS_MAGNITUDE, MAGNITUDE

_COLUMNS = {
    "split": ("split", ".1%"),
    "missed": ("missed", ".1%"),
    "absurd": ("absurd", ".1%"),
    "flux_bias": ("bias", "+.2%"),
    "pull_nmad": ("pull width", ".2f"),
    "beyond_5_sigma": ("> 5σ", ".1%"),
}
_TITLES = {
    CLASS: "Isolated galaxies by class",
    MAGNITUDE: "Isolated galaxies by magnitude",
    CLASS_MAGNITUDE: "Isolated galaxies by class and magnitude",
}
_WORDS = (
    "Split: more than one row; missed: no row in place; absurd: a row of a flux that cannot be "
    "(below −3σ, or above twice the truth); bias: median of F / F_true − 1 in i; pull: error over "
    "stated error, whose width (1.4826 MAD) should be 1. After ± half of the 95 % interval "
    "(Wilson's of fractions).",
)


def singles_tables(rows: Sequence[Row]) -> list[Table]:
    """Return a table for each grid and way to sort."""
    grids = dict.fromkeys(str(row["grid"]) for row in rows)
    return [
        _table(by, grid, [r for r in rows if r["grid"] == grid and r["n_galaxies"] == by])
        for by in _TITLES
        for grid in grids
    ]


def _table(by: str, grid: str, rows: Sequence[Row]) -> Table:
    names = list(dict.fromkeys(str(row["deblender"]) for row in rows))
    galaxies = list(dict.fromkeys(str(row["galaxy"]) for row in rows))
    found = {(str(row["deblender"]), str(row["galaxy"])): row for row in rows}
    header = ["galaxies", "n", *(f"{t}, {name}" for t, _ in _COLUMNS.values() for name in names)]
    lines = [
        [
            galaxy,
            str(found[names[0], galaxy]["n"]),
            *(
                cell(found[name, galaxy], key, spec)
                for key, (_, spec) in _COLUMNS.items()
                for name in names
            ),
        ]
        for galaxy in galaxies
    ]
    return Table(header, lines, _TITLES[by], (f"{grid}:", *_WORDS))
