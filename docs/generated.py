"""Fills the reference pages from the code, as a hook of mkdocs.

A page asks for a part with a line ``<!-- generated: NAME -->``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

import pyarrow as pa
import typer
from typer.core import TyperArgument, TyperGroup, TyperOption

from raydeblend import models, parents
from raydeblend.catalog import Column, columns
from raydeblend.cli.main import app
from raydeblend.flags import DESCRIPTIONS, Flag
from raydeblend.networks.listing import list_shipped
from raydeblend.parents import PEAK_REASONS, SHORTFALLS

MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace each mark of a page (the event's name is mkdocs's)."""
    return MARK.sub(lambda found: PARTS[found.group(1)](), markdown)


def commands() -> str:
    """Return a section for each command, with its arguments and options."""
    group = typer.main.get_command(app)
    return "\n\n".join(_command(path, command) for path, command in _walk(group, ()))


def _walk(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _walk(command, (*path, name))
        else:
            yield (*path, name), command


def _command(path: tuple[str, ...], command: Any) -> str:
    arguments = [p for p in command.params if isinstance(p, TyperArgument)]
    usage = " ".join(["raydeblend", *path, *(_metavar(p) for p in arguments)])
    help_text = (command.help or "").strip()
    rows = [_row(f"`{_metavar(p)}`", p, required=p.required) for p in arguments]
    rows += [
        _row(", ".join(f"`{name}`" for name in p.opts), p, required=p.required)
        for p in command.params
        if isinstance(p, TyperOption) and p.name != "help"
    ]
    head = "| | default | |\n| --- | --- | --- |"
    return "\n\n".join([f"## `{usage}`", _text(help_text), "\n".join([head, *rows])])


def _metavar(argument: Any) -> str:
    name = (argument.metavar or str(argument.name).upper()).strip("[]")
    return f"{name}…" if argument.nargs == -1 else name


def _row(name: str, parameter: Any, required: bool) -> str:
    default = "required" if required else _shown(parameter.default)
    return f"| {name} | {default} | {_text(parameter.help or '').replace('|', '&#124;')} |"


def _text(said: str) -> str:
    """Return a text in which nothing is taken for HTML; in backticks nothing is anyway."""
    parts = said.split("`")
    parts[::2] = [escape(part, quote=False) for part in parts[::2]]
    return "`".join(parts)


def _shown(default: Any) -> str:
    if default is None or default is False or callable(default):
        return ""
    value = getattr(default, "value", default)
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return f"`{text.replace('|', '&#124;')}`" if text else ""


def catalog_columns() -> str:
    """Return the columns of a catalog, a band's name standing for all, and a second for pairs."""
    described = columns(["<band>", "<band2>"])
    return _columns([c for c in described if "<band2>" not in c.name or "<band>" in c.name])


def _columns(described: Sequence[Column]) -> str:
    rows = [f"| `{c.name}` | {_type(c)} | {c.unit} | {_text(c.description)} |" for c in described]
    return "\n".join(["| column | type | unit | |", "| --- | --- | --- | --- |", *rows])


def _type(column: Column) -> str:
    kind = column.type
    return f"list of {kind.value_type}" if pa.types.is_list(kind) else str(kind)


def reasons() -> str:
    """Return why footprints fall short and why peaks are no rows."""
    rows = [f"| `shortfall` | `{reason}` | {_text(text)} |" for reason, text in SHORTFALLS.items()]
    rows += [
        f"| `n_{reason}` | `{reason}` | {_text(text)} |" for reason, text in PEAK_REASONS.items()
    ]
    return "\n".join(["| column | reason | |", "| --- | --- | --- |", *rows])


def flags() -> str:
    """Return the bits of the `flags` column."""
    rows = [f"| {flag.value} | `{flag.name}` | {_text(DESCRIPTIONS[flag])} |" for flag in Flag]
    return "\n".join(["| value | name | |", "| --- | --- | --- |", *rows])


def weights() -> str:
    """Return what `raydeblend weights` prints."""
    lines = "\n".join(head + text for head, text in list_shipped())
    return f"```text\n{lines}\n```"


PARTS: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "columns": catalog_columns,
    "flags": flags,
    "parents": lambda: _columns(parents.columns()),
    "reasons": reasons,
    "models": lambda: _columns(models.columns(["<band>"])),
    "weights": weights,
}
