"""How sentences name numbers of things, and how long ones and wide tables fit a terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby

LEAST_WIDTH = 20
"""Columns that a text keeps beside a head that is too long for the terminal."""


def amount(n: int, thing: str) -> str:
    """Return a number with its noun, as in ``1 tile`` and ``2,000 tiles``."""
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def beside(head: str, text: str) -> str:
    """Return a line of a list: on a terminal, `text` is folded in the columns beside its head."""
    if not sys.stdout.isatty():
        return head + text
    width = max(shutil.get_terminal_size().columns, len(head) + LEAST_WIDTH)
    return textwrap.fill(
        text,
        width,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


def fitted(markdown: str) -> str:
    """Return a text whose tables are cut, on a terminal, into parts of columns that fit it."""
    if not sys.stdout.isatty():
        return markdown
    width = shutil.get_terminal_size().columns
    blocks = groupby(markdown.splitlines(), key=lambda line: line.startswith("|"))
    return "\n".join(
        line
        for is_table, lines in blocks
        for line in (_cut(list(lines), width) if is_table else lines)
    )


def _cut(table: Sequence[str], width: int) -> Iterator[str]:
    """Yield the lines of a table in parts, each of which begins with the first column."""
    rows = [line.strip("|").split("|") for line in table]
    room = [len(cell) + 1 for cell in rows[0]]
    parts: list[list[int]] = [[0]]
    for i in range(1, len(room)):
        if len(parts[-1]) > 1 and 1 + sum(room[j] for j in [*parts[-1], i]) > width:
            parts.append([0])
        parts[-1].append(i)
    for n, part in enumerate(parts):
        if n:
            yield ""
        yield from (f"|{'|'.join(row[i] for i in part)}|" for row in rows)
