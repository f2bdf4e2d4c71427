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
from typing import Annotated

import typer

from raydeblend import __version__
from raydeblend.cli import catalog, evaluate, finished, psf, simulate, train
from raydeblend.cli.options import EXIT_FAILED_CELLS
from raydeblend.errors import ConfigError, Stopped, TrainingError

EXIT_TRAINING_STOPPED = 1
EXIT_UNUSABLE = 2
EXIT_SIGNAL = 128
SIGNALS = (signal.SIGINT, signal.SIGTERM)

app = typer.Typer(
    name="raydeblend",
    help="Deblended galaxy catalogs from survey images, with neural deblenders on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for commands in (catalog, finished, psf, simulate, train, evaluate):
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
        with _stopped_by_signals():
            app(args=None if arguments is None else list(arguments))
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
