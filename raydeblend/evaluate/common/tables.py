"""Markdown tables and their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are aligned in plain text too."""
    columns = [header, *rows]
    widths = [max(len(row[i]) for row in columns) for i in range(len(header))]
    lines = [_line(row, widths) for row in columns]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    return "| " + " | ".join(cells) + " |"


def number(value: float, spec: str) -> str:
    """Format a number; a dash for one that does not exist."""
    return format(value, spec) if np.isfinite(value) else "–"
