"""Tables of results: one value that becomes Markdown, JSON, or (`evaluate.page`) HTML."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from raydeblend.errors import ConfigError

NAME = "tables.json"
"""File of the tables in a results directory."""


@dataclass(frozen=True)
class Table:
    """A table of formatted cells, and the paragraphs around it.

    Attributes
    ----------
    header
        Column titles; empty where there is only something to say.
    rows
        Each as long as `header`.
    title
        Several tables in a row may share one; empty for none.
    before, after
        Paragraphs above and below.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    before: Sequence[str] = ()
    after: Sequence[str] = ()


def name_tables(tables: Sequence[Table]) -> list[tuple[str, Table]]:
    """Return the tables with their titles; one without a title is called by its number."""
    return [(table.title or f"Table {i}", table) for i, table in enumerate(tables, start=1)]


def to_markdown(tables: Sequence[Table]) -> str:
    """Return the tables under their titles; a title that they share is said once."""
    return "\n\n".join(_blocks(tables)) + "\n"


def _blocks(tables: Sequence[Table]) -> Iterator[str]:
    title = ""
    for table in tables:
        if table.title != title:
            title = table.title
            yield f"### {title}"
        yield from table.before
        if table.header:
            yield markdown(table.header, table.rows)
        yield from table.after


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


def to_plain(tables: Sequence[Table]) -> list[dict[str, Any]]:
    """Return the tables as values that JSON knows."""
    return [asdict(table) for table in tables]


def from_plain(tables: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Return the tables of `to_plain`."""
    return [Table(**table) for table in tables]


def to_file(tables: Sequence[Table]) -> bytes:
    """Return the content of ``tables.json``."""
    return (json.dumps(to_plain(tables), indent=1, ensure_ascii=False) + "\n").encode()


def read_tables(content: bytes, path: str) -> list[Table]:
    """Return the tables of a ``tables.json``; `path` is for messages.

    Raises
    ------
    ConfigError
        If the content is anything else.
    """
    try:
        return from_plain(json.loads(content))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} holds no tables: {error}") from error


def number(value: float, spec: str) -> str:
    """Format a number; a dash for one that does not exist."""
    return format(value, spec) if np.isfinite(value) else "–"
