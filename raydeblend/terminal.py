"""What stands live at the foot of a terminal, with the log above it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from io import StringIO, TextIOBase

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

BAR_WIDTH = 24
NOTEBOOK_EVERY_S, NOTEBOOK_WIDTH = 0.5, 100


def is_quiet() -> bool:
    """Tell whether the package's log tells no more than warnings."""
    return logging.getLogger("raydeblend").level > logging.INFO


def terminal() -> Console | None:
    """Return the terminal or notebook that standard error goes to; None for a file or a pipe."""
    console = Console(stderr=True)
    return console if console.is_terminal or console.is_jupyter else None


@contextmanager
def live(render: Callable[[], RenderableType], console: Console) -> Iterator[None]:
    """Draw what `render` gives at the foot of a terminal, again and again while the block runs."""
    if console.is_jupyter:
        with _live_in_notebook(render):
            yield
        return
    # Nothing but this is drawn over, so that no line of other programs is.
    with Live(get_renderable=render, console=console, transient=True), _logged_above(console):
        yield


@contextmanager
def _live_in_notebook(render: Callable[[], RenderableType]) -> Iterator[None]:
    """Do so below a notebook's cell; rich itself would need ipywidgets for that."""
    from IPython.display import HTML, display

    shown = display(HTML(_to_html(render())), display_id=True)
    try:
        with repeated(lambda: shown.update(HTML(_to_html(render()))), NOTEBOOK_EVERY_S):
            yield
    finally:
        shown.update(HTML(""))


@contextmanager
def repeated(action: Callable[[], object], seconds: float) -> Iterator[None]:
    """Do something every so many seconds, in a thread, while the block runs."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(seconds):
            action()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _to_html(drawn: RenderableType) -> str:
    page = Console(
        file=StringIO(), record=True, width=NOTEBOOK_WIDTH, force_terminal=True, force_jupyter=False
    )
    page.print(drawn)
    return page.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def bar(done: float | None, total: float, *said: str) -> RenderableType:
    """Draw a progress bar with text; without `done`, one that only shows activity."""
    filled = ProgressBar(total=max(total, 1), completed=done or 0, width=BAR_WIDTH)
    row = Table.grid(padding=(0, 1))
    row.add_row(
        ProgressBar(pulse=True, width=BAR_WIDTH) if done is None else filled, *map(Text, said)
    )
    return row


def duration(seconds: float) -> str:
    """Return seconds as ``h:mm:ss``."""
    return str(timedelta(seconds=round(seconds)))


@contextmanager
def _logged_above(console: Console) -> Iterator[None]:
    """Let what is logged to the terminal stand above what is live there."""
    streams = [
        (handler, handler.setStream(_Above(console)))
        for handler in logging.getLogger().handlers
        if type(handler) is logging.StreamHandler
    ]
    try:
        yield
    finally:
        for handler, stream in streams:
            handler.setStream(stream)


class _Above(TextIOBase):
    """A file whose lines stand above what is live on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, text: str) -> int:
        """Print text as it is."""
        self._console.print(text, end="", markup=False, highlight=False, soft_wrap=True)
        return len(text)
