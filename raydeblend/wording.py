"""How sentences name numbers of things, and how long ones are folded on a terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap

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
