"""The scores in the cards of the shipped weights, taken from the stored results.

``make results`` ends with it.  A card keeps what its training printed and gets the rows that
``raydeblend evaluate`` printed for the network, under the command that prints them again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raydeblend.evaluate.common.tables import Table, from_plain, name_tables

COMMAND = "raydeblend evaluate"
Part = dict[str, list[Any]]


@dataclass(frozen=True)
class Shown:
    """The rows of one table of a stored run that are about some weights.

    Attributes
    ----------
    run, table
        Name of the stored run, and title of its table.
    said
        What cells of a row say, one of them; all rows without any.
    """

    run: str
    table: str
    said: tuple[str, ...] = ()

    def part(self, tables: Sequence[Table]) -> Part:
        """Return the part of a run's tables: its columns, and its rows."""
        table = next(table for title, table in name_tables(tables) if title == self.table)
        rows = [list(row) for row in table.rows if not self.said or {*self.said} & {*row}]
        return {"columns": list(table.header), "rows": rows}


SCORES = "Scores"
EUCLID = "Euclid VIS, flux of the centered galaxy"
ONLY = "Table 1"
SHOWN: Mapping[str, tuple[Shown, ...]] = {
    "branched": (
        Shown("wang2022", SCORES, ("branched",)),
        Shown("wang2022-fresh", SCORES, ("branched",)),
    ),
    "branched-zoo": (Shown("reiman2019", ONLY, ("branched-zoo",)),),
    "counter": (Shown("wang2022", "Counter"), Shown("wang2022-fresh", "Counter")),
    "gan": (Shown("gan", ONLY),),
    "rdn": (
        Shown("wang2022", SCORES, ("rdn",)),
        Shown("wang2022-fresh", SCORES, ("rdn",)),
        Shown("hsc-blends", "Real HSC blends", ("rdn",)),
    ),
    "rdn-joint": (Shown("rdn-joint", SCORES, ("rdn-joint",)),),
    "rdn-joint-counter": (Shown("rdn-joint", SCORES, ("rdn-joint",)),),
    "rdn-multiband": (
        Shown("rdn-multiband", SCORES, ("rdn",)),
        Shown("hsc-blends-multiband", "Real HSC blends", ("rdn",)),
    ),
    "srflow": (
        Shown("srflow", "Table 1", ("srflow", "srflow (fit)")),
        Shown("srflow", "Samples: images"),
        Shown("srflow", "Samples: intervals"),
        Shown("srflow", "Samples: probabilities"),
    ),
    "srgan": (
        Shown("hemmati2022", ONLY, ("srgan", "srgan (fit)")),
        Shown("wang2022", SCORES, ("srgan",)),
    ),
    "srgan-multiband": (
        Shown("hemmati2022-multiband", ONLY, ("srgan-multiband", "srgan-multiband (fit)")),
    ),
    "vae": (Shown("wang2022", SCORES, ("vae",)),),
    "vae-deblend": (Shown("wang2022", SCORES, ("vae",)),),
    "vae-euclid": (Shown("nemani2023", EUCLID, ("vae-isolated",)),),
    "vae-deblend-euclid": (Shown("nemani2023", EUCLID, ("vae", "vae-centered")),),
}


def scores(name: str, sha256: str, stored: Path) -> dict[str, list[Part]]:
    """Return the stored tables about some weights, by the command that printed them.

    Runs that are not stored, or were made with other weights of that name, say nothing.
    """
    found: dict[str, list[Part]] = {}
    for shown in SHOWN[name]:
        path = stored / f"{shown.run}.json"
        if not path.exists():
            continue
        content = json.loads(path.read_text())
        if content["provenance"]["weights"].get(name) == sha256:
            parts = found.setdefault(content["provenance"]["command"], [])
            parts.append(shown.part(from_plain(content["tables"])))
    return found


def scored(card: Path, stored: Path) -> str:
    """Return a card with the stored scores in place of those of an earlier evaluation."""
    content = json.loads(card.read_text())
    kept = {key: value for key, value in content["scores"].items() if not key.startswith(COMMAND)}
    found = scores(card.stem, content["sha256"], stored)
    return json.dumps({**content, "scores": kept | found}, indent=2, ensure_ascii=False) + "\n"


def cards(weights: Path) -> list[Path]:
    """Return the paths of the cards of the weights in a folder."""
    return [path.with_suffix(".json") for path in sorted(weights.glob("*.safetensors"))]


def write_cards(stored: Path, weights: Path) -> None:
    """Rewrite the cards of the weights in a folder."""
    for card in cards(weights):
        card.write_text(scored(card, stored))


def outdated_cards(stored: Path, weights: Path) -> list[str]:
    """Return the names of the cards that `write_cards` would change."""
    return [card.name for card in cards(weights) if scored(card, stored) != card.read_text()]
