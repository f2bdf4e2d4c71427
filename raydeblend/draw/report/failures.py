"""What went wrong in a run: cells by reason, and sources by flag, each with an example."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa

from raydeblend.evaluate.common.tables import Table
from raydeblend.flags import DESCRIPTIONS, Flag
from raydeblend.pipeline.summary import RunSummary, group_failures

MOST_REASONS = 30


class FlagCounts:
    """How many rows carry each flag, and one of them."""

    def __init__(self) -> None:
        self.rows = 0
        self.number: Counter[Flag] = Counter()
        self.example: dict[Flag, int] = {}

    def add(self, rows: pa.Table) -> None:
        """Count rows."""
        self.rows += len(rows)
        bits, identifiers = rows["flags"].to_numpy(), rows["source_id"].to_numpy()
        for flag in Flag:
            carried = (bits & int(flag)) != 0
            if carried.any():
                self.number[flag] += int(carried.sum())
                self.example.setdefault(flag, int(identifiers[carried.argmax()]))


def cells_table(summary: RunSummary) -> Table:
    """Return the failed cells, and tiles that could not be planned, by kind of reason."""
    title = "Failed cells"
    if not summary.failures:
        return Table((), (), title, ("No cell failed.",))
    reasons = group_failures(summary)
    rows = [
        [str(reason.n), reason.example.reason, f"{reason.example.tile} {reason.example.cell}"]
        for reason in reasons[:MOST_REASONS]
    ]
    left = len(reasons) - len(rows)
    after = (f"And {left} other reasons, in the ledger.",) if left else ()
    before = ("Of each kind of reason one example; # stands for numbers that differ.",)
    return Table(("cells", "reason of one", "tile and cell"), rows, title, before, after)


def suspects_table(summary: RunSummary) -> Table:
    """Return what the checks found of cells, the most frequent first."""
    title = "Suspect cells"
    if not summary.findings:
        return Table((), (), title, ("No cell is suspect.",))
    shown = summary.findings[:MOST_REASONS]
    rows = [[str(found.n), found.text, f"{found.tile} {found.cell}"] for found in shown]
    left = len(summary.findings) - len(shown)
    after = (f"And {left} other findings, in the ledger.",) if left else ()
    before = (f"What was found in {summary.n_suspect:,} cells; of each kind one example.",)
    return Table(("cells", "found in one", "tile and cell"), rows, title, before, after)


def flags_table(flags: FlagCounts) -> Table:
    """Return the flags that rows carry, the most frequent first."""
    title = "Flags"
    if not flags.number:
        return Table((), (), title, ("No row has a flag.",))
    rows = [
        [
            flag.name or "",
            f"{n:,}",
            f"{n / flags.rows:.1%}",
            DESCRIPTIONS[flag],
            str(flags.example[flag]),
        ]
        for flag, n in flags.number.most_common()
    ]
    before = ("Of all rows; raydeblend inspect OUT SOURCE_ID draws an example.",)
    return Table(("flag", "rows", "part", "what it means", "an example"), rows, title, before)
