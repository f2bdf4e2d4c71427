"""The look of the report, and the tables that it reads from Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

STYLE = """
:root { --ink: #1b1f24; --paper: #ffffff; --faint: #6a737d; --line: #d6dae0; --stripe: #f5f7f9;
  --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e6ea; --paper: #14171b; --faint: #9aa4af;
  --line: #353b43; --stripe: #1c2127; --link: #7db7f0; } }
body { color: var(--ink); background: var(--paper); max-width: 78rem; margin: 0 auto;
  padding: 1rem 1.5rem 4rem; font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
h3 { margin-top: 2rem; }
a { color: var(--link); } nav h2 { margin-top: 1rem; border: 0; font-size: 1.1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: left; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
tbody tr:nth-child(even) { background: var(--stripe); }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; height: auto; background: #ffffff; }
figcaption { color: var(--faint); font-size: .9rem; max-width: 60rem; }
dl.provenance { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem;
  font-size: .9rem; } dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
code { font: .8rem ui-monospace, monospace; }
@media print { nav { display: none; } figure { break-inside: avoid; } }
"""
"""Readable in light and in dark; figures keep their white ground."""


@dataclass(frozen=True)
class Table:
    """A table of ``tables.md`` under its title; `text` are the lines about it."""

    title: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    text: Sequence[str] = field(default_factory=list)


def parse_markdown(markdown: str) -> list[Table]:
    """Return the tables of a text of headings, lines and Markdown tables.

    Two tables under one heading become two; one without a heading is called by its number.
    """
    tables: list[Table] = []
    for title, block in _sections(markdown):
        text: list[str] = []
        # A table ends the paragraph before it, as in Markdown, blank line or not.
        apart = re.sub(r"^(?!\|)(.*\S.*)\n(?=\|)", r"\1\n\n", block.strip(), flags=re.MULTILINE)
        for part in re.split(r"\n\s*\n", apart):
            lines = [line.strip() for line in part.splitlines() if line.strip()]
            if lines and lines[0].startswith("|"):
                header, rows = _cells(lines[0]), [_cells(line) for line in lines[2:]]
                tables.append(Table(title or f"Table {len(tables) + 1}", header, rows, text))
                text = []
            elif lines:
                text = [*text, " ".join(lines)]
        if text:
            tables.append(Table(title or "Notes", text=text))
    return tables


def _sections(markdown: str) -> list[tuple[str, str]]:
    """Split at headings of any level; what comes before the first has no title."""
    parts = re.split(r"^#+\s+(.*)$", markdown, flags=re.MULTILINE)
    pairs = [("", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]
    return [(title.strip(), block) for title, block in pairs if block.strip()]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
