"""The command line: arguments in, one call out.

Exit codes: 0 done; 1 finished, but some cells failed, or training diverged or collapsed; 2
unusable arguments or input; 130 and 143 ended by Ctrl-C and by SIGTERM.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from raydeblend import __version__
from raydeblend.cli import catalog, evaluate, finished, psf, reference, simulate, train
from raydeblend.cli.options import EXIT_FAILED_CELLS
from raydeblend.errors import ConfigError, Stopped, TrainingError

EXIT_TRAINING_STOPPED = 1
EXIT_UNUSABLE = 2
EXIT_SIGNAL = 128
SIGNALS = (signal.SIGINT, signal.SIGTERM)

ORDER = (
    "demo", "catalog", "verify", "inspect", "map", "report", "injected", "export",
    "columns", "flags", "reasons", "layouts", "psf", "deblend", "weights", "simulate", "train",
    "evaluate",
)  # fmt: skip
"""All commands, in the order in which people need them."""


class OrderedCommands(TyperGroup):
    """Lists the commands in `ORDER`."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    name="raydeblend",
    cls=OrderedCommands,
    help="Deblended galaxy catalogs from survey images, by a joint fit or neural networks, on Ray.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
for commands in (catalog, finished, psf, reference, simulate, train, evaluate):
    commands.register(app)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"raydeblend {__version__}")
        raise typer.Exit


@app.callback()
def before_command(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every cell.")] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Log only warnings and the result.")
    ] = False,
    log_file: Annotated[
        str | None, typer.Option(help="Also write the --verbose log to this file.")
    ] = None,
) -> None:
    """Take the options that precede the command's name."""
    if verbose and quiet:
        raise ConfigError("--verbose and --quiet are mutually exclusive")
    least = logging.WARNING if quiet else logging.INFO
    set_up_logging(logging.DEBUG if verbose else least, log_file)


def set_up_logging(level: int, file: str | None = None) -> None:
    """Log the package's progress to stderr, and everything to a file.

    Raises
    ------
    ConfigError
        If the file cannot be written.
    """
    own = logging.getLogger("raydeblend")
    # The level of other packages' messages is set on the handlers below.
    own.setLevel(logging.DEBUG if file else level)
    for handler in logging.getLogger().handlers:
        handler.setLevel(level)
    if file is not None:
        own.addHandler(_file_handler(file))


def _file_handler(path: str) -> logging.Handler:
    try:
        handler = logging.FileHandler(path)
    except OSError as error:
        raise ConfigError(f"cannot write the log to {path}: {error.strerror}") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return handler


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; an error that a user can mend becomes one sentence."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        with _stopped_by_signals():
            app(args=None if arguments is None else list(arguments), prog_name="raydeblend")
    except SystemExit:
        # The usual end; to match it with the last errors below would load the storage's clients.
        raise
    except Stopped as stop:
        print(f"raydeblend: {stop.said or 'stopped'}", file=sys.stderr)
        sys.exit(EXIT_SIGNAL + stop.number)
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


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end a command in order; a second one ends it at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _: object) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    raise Stopped(number)


def _storage() -> ModuleType:
    from raydeblend import storage

    return storage


if __name__ == "__main__":
    main()
