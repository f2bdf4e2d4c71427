"""What came of what was done to a cluster: a table in the page about clusters.

Each row is written when it is known, so that several runs can fill one table.
"""

import re
import subprocess
import time
from dataclasses import astuple, dataclass
from pathlib import Path

UNDISTURBED = "nothing"
HEAD = [
    "| what was done | what came of it | seconds | lost | catalog | commit, day |",
    "| --- | --- | --- | --- | --- | --- |",
]
TABLE = re.compile(r"(?<=<!-- written by tests/cluster -->\n).*?(?=<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Outcome:
    """One row of the table.

    Attributes
    ----------
    done, came
        What was done, and what came of it, in words.
    seconds
        How long it took.
    catalog
        The hash of the catalog, empty where none is made.
    made
        Commit and day.
    """

    done: str
    came: str
    seconds: int
    catalog: str
    made: str


def outcome(done, came, seconds, catalog=""):
    """Return the outcome of a run that has just ended."""
    asked = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(
        asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    ).stdout.strip()
    made = f"{commit}, {time.strftime('%Y-%m-%d')}"
    return Outcome(done, came, round(seconds), catalog[:12] and f"`{catalog[:12]}`", made)


def record(page, new):
    """Write a row into the table of a page, in place of an earlier one of the same."""
    text = page.read_text()
    rows = {o.done: o for o in read(text)} | {new.done: new}
    lines = "\n".join([*HEAD, *map(_line(rows), rows.values()), ""])
    page.write_text(TABLE.sub(lambda _: lines, text))


def read(text):
    """Return the outcomes in the table of a page."""
    lines = TABLE.search(text)[0].splitlines()[len(HEAD) :]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [Outcome(d, c, int(s), catalog, made) for d, c, s, _, catalog, made in cells]


def _line(rows):
    """Return what makes a line of a row; what was lost is known beside the undisturbed run."""
    base = rows[UNDISTURBED].seconds if UNDISTURBED in rows else None

    def line(o):
        done, came, seconds, catalog, made = astuple(o)
        lost = "" if base is None or not o.catalog else f"{seconds - base}"
        return f"| {done} | {came} | {seconds} | {lost} | {catalog} | {made} |"

    return line
