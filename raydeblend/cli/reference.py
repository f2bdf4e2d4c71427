"""The commands that explain a catalog: its columns, the bits of its flags, and reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated

import typer

from raydeblend.cli.options import split_names
from raydeblend.errors import ConfigError
from raydeblend.flags import DESCRIPTIONS
from raydeblend.wording import beside


def columns_command(
    bands: Annotated[str, typer.Option(help="Bands, separated by commas.")] = "g,r,i",
    table: Annotated[str, typer.Option(help="catalog, parents or models.")] = "catalog",
) -> None:
    """List the columns of a table that catalog writes: name, type, unit, description."""
    from raydeblend import catalog, models, parents

    known: Mapping[str, Callable[[Sequence[str]], Sequence[catalog.Column]]]
    known = {"catalog": catalog.columns, "parents": parents.columns, "models": models.columns}
    if table not in known:
        raise ConfigError(f"unknown table {table!r}; valid: {', '.join(known)}")
    described = known[table](split_names(bands))
    rows = [(c.name, str(c.type), c.unit or "-", c.description) for c in described]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    for *short, description in rows:
        cells = [cell.ljust(width) for cell, width in zip(short, widths, strict=True)]
        print(beside("  ".join([*cells, ""]), description))


def flags_command(
    value: Annotated[
        int | None,
        typer.Argument(
            metavar="VALUE", help="A value of the column flags; by default all are listed."
        ),
    ] = None,
) -> None:
    """Explain the flags of a source: raydeblend flags 72."""
    print("\n".join(_flag_lines(value)))


def reasons_command() -> None:
    """List the reasons why a footprint is not fully deblended, or a peak has no row."""
    from raydeblend.parents import PEAK_REASONS, SHORTFALLS

    print("a footprint not deblended in full (shortfall):")
    print("\n".join(beside(f"  {reason!s:<12}", text) for reason, text in SHORTFALLS.items()))
    print("a detected peak that is no row (n_<reason>):")
    print("\n".join(beside(f"  {reason!s:<12}", text) for reason, text in PEAK_REASONS.items()))


def _flag_lines(value: int | None) -> Iterator[str]:
    """Yield a line for each flag that is set in a value, or for each that there is."""
    known = sum(DESCRIPTIONS)
    if value is not None and value & ~known:
        raise ConfigError(
            f"{value} is not a sum of flags; `raydeblend flags` lists them, {int(known)} is all"
        )
    if value == 0:
        yield "no flag is set"
    for flag, description in DESCRIPTIONS.items():
        if value is None or value & flag:
            yield beside(f"{int(flag):>6}  {flag.name:<20}  ", description)


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command("columns")(columns_command)
    app.command("flags")(flags_command)
    app.command("reasons")(reasons_command)
