"""The command line that goes on with a run, from what ``run.json`` says of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import MISSING, fields

from raydeblend.config import CatalogConfig
from raydeblend.pipeline.ledger import Run

OPTIONS = {"detect_threshold": "threshold", "detect_min_area": "min-area"}
"""Options that are not called as their field is."""
SWITCHES = {"deblend_singles": "--only-blends", "free_positions": "--free-positions"}
"""Options without a value, that turn a default over."""
FOUND = ("positions_hash",)
"""What a run finds out by itself."""


def resume_command(out: str, run: Run, retry_failed: bool = False) -> str:
    """Return what a shell takes to do the rest of a run; what is not a default is said.

    With `retry_failed` only what failed.
    """
    words = ["raydeblend", "catalog", run.input, out, "--bands", ",".join(run.bands)]
    for name, value in _changed(run):
        words += [SWITCHES[name]] if name in SWITCHES else [_option(name), _text(value)]
    if run.part != "1/1":
        words += ["--part", run.part]
    return shlex.join([*words, "--resume", *(["--retry-failed"] if retry_failed else [])])


def _option(name: str) -> str:
    return f"--{OPTIONS.get(name, name.replace('_', '-'))}"


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _changed(run: Run) -> Iterator[tuple[str, object]]:
    """Yield the fields of a run's configuration that are not as a new run would have them."""
    for f in fields(CatalogConfig):
        value = run.config.get(f.name, f.default)
        plain = tuple(value) if isinstance(value, list) else value
        if f.default is not MISSING and plain != f.default and f.name not in FOUND:
            yield f.name, plain
