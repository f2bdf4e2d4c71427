"""The command line: arguments in, one call out.

Exit codes: 0 done; 1 finished, but some cells failed, or training diverged or collapsed; 2
unusable arguments or input.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Annotated

import typer

from raydeblend import __version__
from raydeblend.cli import catalog, evaluate, finished, simulate, train
from raydeblend.cli.options import EXIT_FAILED_CELLS
from raydeblend.errors import ConfigError, TrainingError

EXIT_TRAINING_STOPPED = 1
EXIT_UNUSABLE = 2

app = typer.Typer(
    name="raydeblend",
    help="Deblended galaxy catalogs from survey images, with neural deblenders on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for commands in (catalog, finished, simulate, train, evaluate):
    commands.register(app)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"raydeblend {__version__}")
        raise typer.Exit


@app.callback()
def _no_command(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Take what goes before the name of a command."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; an error that a user can mend becomes one sentence."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        app(args=None if arguments is None else list(arguments))
    except SystemExit:
        # The usual end; to match it with the last errors below would load the storage's clients.
        raise
    except ConfigError as error:
        print(f"raydeblend: {error}", file=sys.stderr)
        sys.exit(EXIT_UNUSABLE)
    except TrainingError as error:
        print(f"raydeblend: {error}", file=sys.stderr)
        sys.exit(EXIT_TRAINING_STOPPED)
    except FileNotFoundError as error:
        missing = error.filename or _storage().explain(error)
        print(f"raydeblend: there is no file or directory {missing}", file=sys.stderr)
        sys.exit(EXIT_UNUSABLE)
    except _storage().READ_ERRORS as error:
        print(f"raydeblend: the storage failed: {_storage().explain(error)}", file=sys.stderr)
        sys.exit(EXIT_FAILED_CELLS)


def _storage() -> ModuleType:
    from raydeblend import storage

    return storage


if __name__ == "__main__":
    main()
