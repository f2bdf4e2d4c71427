"""Options that commands share, and those of a YAML file for runs that are too long to type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
import yaml

from raydeblend import storage
from raydeblend.config import LARGEST_SEED
from raydeblend.errors import ConfigError


def read_options(context: typer.Context, path: str | None) -> str | None:
    """Take a YAML file's values for the options that the command line does not give.

    Names are those of the options or arguments, with - or _; a list is one option given several
    times, or, for an option that takes one value, its parts between commas.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no mapping, or names an option that the command lacks.
    """
    if path is None:
        return None
    several = {p.name: p.multiple for p in context.command.params if p.name and p.name != "config"}
    values = {name.replace("-", "_"): value for name, value in _read(path).items()}
    unknown = sorted(values.keys() - several.keys())
    if unknown:
        raise ConfigError(
            f"{path} names {', '.join(unknown)}, which {context.info_name} does not have; valid "
            f"are {', '.join(sorted(several))}"
        )
    context.default_map = {name: _value(v, several[name]) for name, v in values.items()}
    return path


def _value(value: Any, several: bool) -> Any:
    if isinstance(value, list) and not several:
        return ",".join(map(str, value))
    return [value] if several and not isinstance(value, list) else value


def _read(path: str) -> Mapping[str, Any]:
    try:
        values = yaml.safe_load(storage.read_bytes(path))
    except (*storage.READ_ERRORS, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the options in {path}: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ConfigError(f"{path} holds no options; write one `name: value` on each line")
    return values


OptionsFile = Annotated[
    str | None,
    typer.Option(
        "--config",
        is_eager=True,
        callback=read_options,
        help="YAML file of options; those on the command line win.",
    ),
]
"""The option that a command takes for such a file."""

Bands = Annotated[str, typer.Option(help="Bands, separated by commas.")]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of everything random.")]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster; by default RAY_ADDRESS, else this machine alone."),
]


def split_names(names: str) -> tuple[str, ...]:
    """Return what stands between the commas of `names`."""
    return tuple(name.strip() for name in names.split(",") if name.strip())
