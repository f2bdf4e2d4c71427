"""The commands that explain a catalog: its columns, and the bits of its flags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from raydeblend.cli.options import split_names
from raydeblend.errors import ConfigError
from raydeblend.flags import DESCRIPTIONS


def columns_command(
    bands: Annotated[str, typer.Option(help="Bands, separated by commas.")] = "g,r,i",
) -> None:
    """List the columns of a catalog: name, type, unit, description."""
    from raydeblend.catalog import columns

    described = columns(split_names(bands))
    rows = [(c.name, str(c.type), c.unit or "-", c.description) for c in described]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    for *short, description in rows:
        cells = [cell.ljust(width) for cell, width in zip(short, widths, strict=True)]
        print("  ".join([*cells, description]))


def flags_command(
    value: Annotated[
        int | None, typer.Argument(help="A value of the column flags; by default all are listed.")
    ] = None,
) -> None:
    """Say what the flags of a source mean: raydeblend flags 72."""
    print("\n".join(_flag_lines(value)))


def _flag_lines(value: int | None) -> Iterator[str]:
    """Yield a line for each flag that is set in a value, or for each that there is."""
    known = sum(DESCRIPTIONS)
    if value is not None and value & ~known:
        raise ConfigError(f"{value} is no value of flags; each is a sum of {list(DESCRIPTIONS)}")
    if value == 0:
        yield "no flag is set"
    for flag, description in DESCRIPTIONS.items():
        if value is None or value & flag:
            yield f"{int(flag):>6}  {flag.name:<20}  {description}"


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("columns")(columns_command)
    app.command("flags")(flags_command)
