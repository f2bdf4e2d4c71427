"""Options that commands share, and those of a YAML file for runs that are too long to type."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Annotated, Any, TypeVar

import typer
import yaml

from raydeblend.config import DEBLENDERS, LARGEST_SEED
from raydeblend.errors import ConfigError
from raydeblend.paths import absolute, is_url

EXIT_FAILED_CELLS = 1
DEBLENDER_HELP = f"One of {', '.join(DEBLENDERS)}, or your own as module:name."


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
            f"{path} has unknown options for {context.info_name}: {', '.join(unknown)}; valid: "
            f"{', '.join(sorted(several))}"
        )
    context.default_map = {name: _value(v, several[name]) for name, v in values.items()}
    return path


def _value(value: Any, several: bool) -> Any:
    if isinstance(value, list) and not several:
        return ",".join(map(str, value))
    return [value] if several and not isinstance(value, list) else value


def _read(path: str) -> Mapping[str, Any]:
    from raydeblend import storage

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
        help="YAML file of options; the command line overrides it.",
    ),
]
"""The option that a command takes for such a file."""


def completed(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what completes, in a shell, the beginning of one of some names."""
    # Typer knows the parameter by this name.
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


Several = TypeVar("Several", str, list[str], None)


def check_paths(value: Several) -> Several:
    """Refuse a path that is empty or on no known storage, before any work.

    A local path passes as it was given; ``file://`` and ``~`` become plain ones.

    Raises
    ------
    ConfigError
        See `raydeblend.paths.absolute`.
    """
    if isinstance(value, list):
        return [_plain(path) for path in value]
    return _plain(value) if isinstance(value, str) else value


def _plain(path: str) -> str:
    known = absolute(path)
    return known if is_url(path) or path.startswith("~") else path


path_argument = partial(typer.Argument, callback=check_paths)
path_option = partial(typer.Option, callback=check_paths)
"""An argument and an option whose value is a path, or several."""

Weights = Annotated[
    str | None,
    path_option(
        metavar="FILE|DIR",
        help="Weights for the deblender: a .safetensors file, or the DIR of `train`.",
    ),
]
Deblender = Annotated[str, typer.Option(help=DEBLENDER_HELP, autocompletion=completed(DEBLENDERS))]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace earlier results.")]
Gpus = Annotated[
    int | None, typer.Option(min=0, help="GPUs to request; by default all that are available.")
]
LayoutsSurvey = Annotated[
    str,
    typer.Option(
        help="Known bands and nominal PSFs, a name or FILE.yaml; auto: the layout's, else HSC."
    ),
]
Bands = Annotated[str, typer.Option(help="Bands, separated by commas.")]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of everything random.")]
Address = Annotated[
    str | None,
    typer.Option(help="Ray cluster; by default RAY_ADDRESS, else this machine."),
]


def split_names(names: str) -> tuple[str, ...]:
    """Split a comma-separated list of names."""
    return tuple(name.strip() for name in names.split(",") if name.strip())
