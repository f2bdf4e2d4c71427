"""One HTML page that needs no other file: its look, its frame, tables and figures.

Figures are embedded; there is no script, no font and no address of another file.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape

from raydeblend.evaluate.common.tables import Table

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
div.row { display: flex; flex-wrap: wrap; gap: 0 1rem; }
div.row figure { flex: 0 1 auto; min-width: 0; max-width: 23.5rem; }
figcaption { color: var(--faint); font-size: .9rem; max-width: 60rem; }
dl.provenance { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem;
  font-size: .9rem; } dt { color: var(--faint); } dd { margin: 0; overflow-wrap: anywhere; }
code { font: .8rem ui-monospace, monospace; }
ul.numbers { display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr));
  gap: .8rem; padding: 0; margin: 1.2rem 0; list-style: none; }
ul.numbers li { padding: .6rem .9rem; background: var(--stripe); border: 1px solid var(--line);
  border-radius: .4rem; }
ul.numbers b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
ul.numbers span { color: var(--faint); font-size: .85rem; }
@media print { nav { display: none; } figure { break-inside: avoid; } }
"""
"""Readable in light and in dark; figures keep their white ground."""


def document(title: str, contents: str, sections: str) -> str:
    """Return a page.

    Parameters
    ----------
    title
        Plain text, shown above too.
    contents
        HTML of the list items that link to the sections.
    sections
        HTML of what the page holds.
    """
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header><h1>{escape(title)}</h1></header>
<nav aria-label="Contents"><h2>Contents</h2><ul>
{contents}
</ul></nav>
<main>
{sections}
</main>
</body>
</html>
"""


PIXELS_PER_POINT = 1.5
"""Pixels of figures for one of the page, so that letters have one size in all."""


def figure_html(png: bytes, name: str, caption: str) -> str:
    """Return a figure that holds its picture; name and caption are plain text."""
    data = base64.b64encode(png).decode()
    width = round(int.from_bytes(png[16:20], "big") / PIXELS_PER_POINT)
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(name)}" width="{width}">'
        f"<figcaption><b>{escape(name)}</b> {escape(caption)}</figcaption></figure>"
    )


def definitions_html(terms: Iterable[tuple[str, str]]) -> str:
    """Return a definition list as HTML, with the terms escaped."""
    lines = "".join(f"<dt>{escape(term)}</dt><dd>{what}</dd>" for term, what in terms)
    return f'<dl class="provenance">{lines}</dl>'


def folded_html(items: Iterable[tuple[str, str]]) -> str:
    """Return names and values, plain text, behind their number."""
    lines = [f"{escape(name)} {escape(value)}" for name, value in items]
    return f"<details><summary>{len(lines)}</summary><code>{'<br>'.join(lines)}</code></details>"


def table_html(table: Table) -> str:
    """Return a table and the paragraphs around it as HTML, without its title."""
    parts = [
        *(f"<p>{escape(text)}</p>" for text in table.before),
        *([_grid(table)] if table.header else []),
        *(f"<p>{escape(text)}</p>" for text in table.after),
    ]
    return "\n".join(parts)


def _grid(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )
